"""Any corpus that lhotse has a recipe for, by its name there (https://lhotse.readthedocs.io/en/latest/corpus.html):

    voxkit prepare lhotse:aishell --corpus-dir /corpora/aishell --out data
    voxkit prepare lhotse:commonvoice --corpus-dir /corpora/cv-corpus-17 --option languages=pl --out data
    voxkit prepare lhotse:yesno --download --out data

lhotse finds recordings and transcripts; the checks, the normalization of the text and the sets are those of every other corpus. A set has
the name that lhotse gives it; train, dev and test are called so whatever the case. What the corpus lacks of dev and test is held out.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from voxkit.data.corpora._listing import check_shares, prepare_listing
from voxkit.data.corpora.readers import Listing, Utterance, usual_name
from voxkit.data.corpora.readers.manifests import of_cut, of_sets
from voxkit.data.reader import use_own_decoder
from voxkit.data.validate import Checks, Preparation

logger = logging.getLogger(__name__)

_PARTS = ("dataset_parts", "splits", "parts", "subsets", "partition")  # what recipes call them
_NAMED = 20  # of lhotse's warnings


def prepare_lhotse(out: str | os.PathLike, name: str, corpus_dir: str | os.PathLike | None = None, *, download: bool = False,
                   parts: Sequence[str] = (), options: dict[str, Any] | None = None, dev: float = 0.1, test: float = 0.1, seed: int = 0,
                   checks: Checks | None = None, jobs: int | None = None, dask: str | None = None) -> Preparation:
    """Make `cuts_<split>.jsonl.gz` of a corpus that lhotse knows.

    Args:
        out: data directory.
        name: of the recipe: aishell, commonvoice, tedlium, ...
        corpus_dir: the corpus; None downloads it to `out`/download.
        download: whether that is wanted.
        parts: of the corpus, where the recipe has any.
        options: further arguments of lhotse's function.
        dev, test, seed, checks, jobs, dask: as for `prepare_folder`; transcripts stay as lhotse gives them by default.

    Raises:
        ValueError: no such recipe, an option that it lacks, a corpus that it does not recognize, nothing left of a split.
        MissingPackage: of the recipe's own.
    """
    check_shares(dev, test)
    prepare, fetch = find_recipe(name)
    if corpus_dir is None:
        if not download:
            raise ValueError(f"lhotse:{name}: give --corpus-dir, the folder that the corpus lies in"
                             + (", or --download" if fetch else "; lhotse cannot download this one"))
        if fetch is None:
            raise ValueError(f"lhotse:{name}: lhotse cannot download it; get it from its publisher, then give --corpus-dir")
        corpus_dir = _download(name, fetch, Path(out).absolute() / "download" / name, options or {})
    elif not Path(corpus_dir).expanduser().is_dir():
        raise ValueError(f"--corpus-dir {corpus_dir}: there is no such folder")
    root = Path(corpus_dir).expanduser().absolute()
    arguments = _arguments(name, prepare, Path(out).absolute() / "lhotse" / name, parts, options or {}, jobs)
    found = Listing(f"lhotse's {name}", files=sorted(p for p in root.iterdir() if p.is_file()))
    for split, manifests in _sets(_run(name, prepare, root, arguments)):
        found.sets[split] += _utterances(manifests)
    if not any(found.sets.values()):
        raise ValueError(f"lhotse:{name}: its recipe finds nothing in {root}; {_expects(prepare)}")
    shown = {key: str(value) for key, value in arguments.items() if key not in ("output_dir", "num_jobs")}
    return prepare_listing(out, f"lhotse:{name}", found, dev=dev, test=test, seed=seed,
                         options={"corpus_dir": str(root), "arguments": shown}, checks=checks or Checks(), jobs=jobs, dask=dask)


def find_recipe(name: str) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """lhotse's prepare_<name> and, where there is one, download_<name>.

    Raises:
        ValueError: there is no such recipe; the message lists those like it.
    """
    import lhotse.recipes

    known = recipe_names()
    plain = name.replace("-", "_").lower()
    if plain not in known:
        like = get_close_matches(plain, known, 5, 0.5)
        raise ValueError(f"lhotse has no recipe {name!r}; " + (f"like it: {', '.join(like)}" if like else f"there are: {', '.join(known)}"))
    return getattr(lhotse.recipes, f"prepare_{plain}"), getattr(lhotse.recipes, f"download_{plain}", None)


def recipe_names() -> list[str]:
    """The corpora that lhotse knows."""
    import lhotse.recipes

    return sorted(name.removeprefix("prepare_") for name, value in vars(lhotse.recipes).items()
                  if name.startswith("prepare_") and callable(value))


def _arguments(name: str, prepare: Callable[..., Any], output: Path, parts: Sequence[str], options: dict[str, Any],
               jobs: int | None) -> dict[str, Any]:
    """Keyword arguments of a recipe's function besides the folder of the corpus."""
    known = dict(list(inspect.signature(prepare).parameters.items())[1:])
    if unknown := [key for key in options if key not in known]:
        raise ValueError(f"lhotse:{name}: --option {unknown[0]}: prepare_{name} has no such argument; there are: {', '.join(known)}")
    arguments = dict(options)
    if "output_dir" in known and known["output_dir"].default is inspect.Parameter.empty:  # some want a place for manifests of theirs
        arguments["output_dir"] = output
    if jobs and "num_jobs" in known:
        arguments.setdefault("num_jobs", jobs)
    if parts:
        key = next((key for key in _PARTS if key in known), None)
        if key is None:
            raise ValueError(f"lhotse:{name}: --parts {' '.join(parts)}: this recipe takes the whole corpus")
        arguments[key] = list(parts)
    lacking = [key for key, p in known.items()
               if p.default is p.empty and key not in arguments and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if lacking:
        raise ValueError(f"lhotse:{name}: prepare_{name} needs {', '.join(lacking)} besides the folder; give --option {lacking[0]}=VALUE")
    return arguments


def _run(name: str, prepare: Callable[..., Any], root: Path, arguments: dict[str, Any]) -> Any:
    """lhotse's function, with what it warns of passed on: it drops what it does not find, and says so in its log alone."""
    from voxkit.optional import MissingPackage

    use_own_decoder()
    with _listening() as warnings:
        try:
            result = prepare(root, **arguments)
        except (MissingPackage, KeyboardInterrupt):
            raise
        except ImportError as error:
            raise MissingPackage(f"lhotse:{name}: {error}") from error
        except Exception as error:  # lhotse's recipes check with assert, and trip over whatever is not as they expect
            reason = str(error).splitlines()[0][:300] if str(error) else repr(error)
            raise ValueError(f"lhotse:{name}: its recipe does not take {root} ({type(error).__name__}: {reason}); "
                             f"{_expects(prepare)}") from error
    for line in warnings[:_NAMED]:
        logger.warning("lhotse:%s: %s", name, line)
    if len(warnings) > _NAMED:
        logger.warning("lhotse:%s: and %d more such lines", name, len(warnings) - _NAMED)
    return result


def _expects(prepare: Callable[..., Any]) -> str:
    return f"what it expects is in the help of lhotse.recipes.{prepare.__name__}"


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Warnings to the root logger, where lhotse's recipes speak."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("voxkit"):
                heard.append(record.getMessage())

    ear = Ear(logging.WARNING)
    logging.getLogger().addHandler(ear)
    try:
        yield heard
    finally:
        logging.getLogger().removeHandler(ear)


def _sets(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """(set, its manifests) of whatever nest of dicts a recipe returns; a level with one name only tells nothing and is passed over."""
    from lhotse import CutSet

    if isinstance(node, CutSet):
        node = {"cuts": node}
    if not isinstance(node, dict):
        raise ValueError(f"lhotse's recipe gave a {type(node).__name__}, and manifests were expected")
    if {"recordings", "supervisions"} <= node.keys() or "cuts" in node:
        yield usual_name("-".join(path)), node
        return
    children = {key: child for key, child in node.items() if isinstance(child, (dict, CutSet))}
    for key, child in children.items():
        yield from _sets(child, path if len(children) == 1 and _nested(child) else (*path, str(key).replace("/", "-")))


def _nested(child: Any) -> bool:
    return isinstance(child, dict) and not {"recordings", "cuts"} & child.keys()


def _utterances(manifests: dict[str, Any]) -> list[Utterance]:
    here = Path.cwd()
    if {"recordings", "supervisions"} <= manifests.keys():
        return of_sets(manifests["recordings"], manifests["supervisions"], here)
    return [u for cut in manifests["cuts"] for u in of_cut(cut, cut.id, here)]


def _download(name: str, fetch: Callable[..., Any], target: Path, options: dict[str, Any]) -> Path:
    """Where lhotse put the corpus. Archives are unpacked without links out of their folder, devices and the like."""
    target.mkdir(parents=True, exist_ok=True)
    known = inspect.signature(fetch).parameters
    if "target_dir" not in known:
        raise ValueError(f"lhotse:{name}: lhotse's download takes {', '.join(known)} and no folder; get the corpus yourself, then give "
                         "--corpus-dir")
    with safe_extraction():
        where = fetch(target_dir=target, **{key: value for key, value in options.items() if key in known})
    return Path(where) if where is not None else target


@contextlib.contextmanager
def safe_extraction() -> Iterator[None]:
    """Meanwhile tarfile unpacks with its `data` filter (PEP 706), whoever calls it."""
    if not hasattr(tarfile, "data_filter"):
        raise ValueError("--download: this Python's tarfile cannot refuse links out of an archive; use Python 3.10.12, 3.11.4 or newer, or "
                         "unpack the corpus yourself and give --corpus-dir")
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        if before is None:
            del tarfile.TarFile.extraction_filter
        else:
            tarfile.TarFile.extraction_filter = before


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare lhotse:NAME`; returns what runs them."""
    parser.add_argument("--corpus-dir", metavar="PATH", help="the folder that the corpus lies in")
    parser.add_argument("--download", action="store_true", help="have lhotse download it into OUT/download, where it can")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="which parts of the corpus, where the recipe has any")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="further argument of lhotse's function")
    parser.add_argument("--dev", type=float, default=0.1, help="share to hold out as dev where the corpus has none (default 0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="share to hold out as test where the corpus has none (default 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed holds out others (default 0)")
    return lambda args, checks: prepare_lhotse(args.out, args.corpus.partition(":")[2], args.corpus_dir, download=args.download,
                                               parts=args.parts, options=_options(args.option), dev=args.dev, test=args.test,
                                               seed=args.seed, checks=checks, jobs=args.jobs, dask=args.dask)


def _options(given: Sequence[str]) -> dict[str, Any]:
    import yaml

    options = {}
    for entry in given:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--option {entry}: write KEY=VALUE")
        options[key] = yaml.safe_load(value)
    return options
