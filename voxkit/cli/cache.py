"""`voxkit cache DIR`: which encoders' states a cache holds and what they take; `--prune` deletes those that nothing reads any more:
superseded by newer ones, cut short, left behind by an interrupted build, and what the other options name. Not while a training reads them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Register the command."""
    p = subparsers.add_parser("cache", help="what a cache of encoder states holds, and what of it can go", description=__doc__)
    p.add_argument("directory", metavar="DIR", help="of the cache: cache_dir of the configuration, by default `states` in data.data_dir")
    p.add_argument("--prune", action="store_true", help="delete what is of no use, and say what that freed")
    p.add_argument("--dry-run", action="store_true", help="with --prune: only say it")
    p.add_argument("--cuts", nargs="+", metavar="JSONL",
                   help="with --prune: cuts as they are today (data/cuts_train.jsonl.gz ...); states of audio that has changed go, cuts "
                        "that are not named keep theirs")
    p.add_argument("--fingerprint", nargs="+", metavar="F", help="with --prune: these go too, as the table names them, or how they begin")
    p.add_argument("--keep-config", nargs="+", metavar="YAML",
                   help="with --prune: only what the encoders of these configurations read stays; a run's config.yaml says all that its "
                        "training was told")
    p.add_argument("--device", default="auto", help="auto, cpu or cuda: that --keep-config is for; the precision may depend on it")
    p.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Print the table, or prune."""
    from voxkit.data import cache_upkeep

    directory = Path(args.directory)
    if not args.prune:
        for option in ("dry_run", "cuts", "fingerprint", "keep_config"):
            if getattr(args, option):
                raise ValueError(f"--{option.replace('_', '-')} says what --prune is to do: give that too")
        _print_table(directory, cache_upkeep.survey(directory))
        return 0
    before = sum(group.num_bytes for group in cache_upkeep.survey(directory))
    found = cache_upkeep.prune(directory, cuts=_cuts(args.cuts) if args.cuts else None, fingerprints=args.fingerprint or (),
                               keep=[_states(path, args.device) for path in args.keep_config or ()], dry_run=args.dry_run)
    shards: Counter[tuple[str, str]] = Counter()
    freed: Counter[tuple[str, str]] = Counter()
    for shard, why in found:
        shards[shard.fingerprint, why] += 1
        freed[shard.fingerprint, why] += shard.num_bytes
    for (fingerprint, why), count in shards.items():
        of = f" of {fingerprint}" if fingerprint else ""
        print(f"{count} shard{'s' if count > 1 else ''}{of}, {size(freed[fingerprint, why])}: {why}")
    print(f"{directory}: {'would free' if args.dry_run else 'freed'} {size(sum(freed.values()))} of {size(before)}")
    return 0


def size(num_bytes: int) -> str:
    """For people: in MB below a tenth of a GB."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.3f} MB"


def _print_table(directory: Path, groups: list[Any]) -> None:
    from voxkit.eval.table import format_table

    print(format_table([{"fingerprint": g.fingerprint, "encoder": g.encoder or "(not noted)", "states": g.states or "", "dtype": g.dtype,
                         "cuts": g.cuts or "", "hours": "" if g.seconds is None else f"{g.seconds / 3600:.2f}",
                         "GB": f"{g.num_bytes / 1e9:.3f}", "written": time.strftime("%Y-%m-%d %H:%M", time.localtime(g.written)),
                         "no use GB": f"{g.useless_bytes / 1e9:.3f}"} for g in groups]))
    useless = sum(group.useless_bytes for group in groups)
    what = f"`voxkit cache {directory} --prune` frees {size(useless)}" if useless else "nothing in it is superseded"
    print(f"\n{directory}: {size(sum(group.num_bytes for group in groups))}; {what}")


def _cuts(paths: list[str]) -> dict[str, Any]:
    """Cuts of some manifests by id."""
    from voxkit.data.manifests import load_cuts

    return {cut.id: cut for path in paths for cut in load_cuts(path)}


def _states(config: str, device: str) -> list[str]:
    """The fingerprints of the states that the training of a configuration would cache."""
    from voxkit.encoders.pretrained import pretrained_encoder
    from voxkit.run import fresh_model
    from voxkit.run_config import load_setup
    from voxkit.text.vocabulary import load_vocabulary
    from voxkit.train.distributed import choose_device

    setup = load_setup(config)
    if not setup.config.tokenizer:
        raise ValueError(f"{config}: tokenizer: empty; give the config.yaml of a run, which names it")
    encoder = pretrained_encoder(fresh_model(setup, load_vocabulary(setup.config.tokenizer)))
    if encoder is None:
        raise ValueError(f"{config}: there is no frozen encoder in it whose states could be stored")
    return encoder.to(choose_device(device)).fingerprints()
