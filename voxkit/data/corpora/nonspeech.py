"""Clips in which nobody speaks, with an empty transcript: what a speech model with a language model learns silence from.

    voxkit prepare nonspeech --out data --minutes 5 [--folders noise]

makes one split, nonspeech. The checks of other corpora do not hold here, where they would leave out every clip.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.data.manifests import cuts_path, file_stamps, fingerprint, read_json, save_cuts
from voxkit.data.validate import file_cut
from voxkit.files import write_json
from voxkit.rate import RATE

if TYPE_CHECKING:
    from lhotse.cut import Cut
    from torch import Tensor

_VERSION = 1
_MADE = "nonspeech.json"


@dataclass
class NonspeechConfig:
    """Attributes: split: name of what is made; minutes: of it in all, half of them out of the folders where there are any; low, high:
    seconds of a clip; folders: of recordings without speech; seed: of every draw."""

    split: str = "nonspeech"
    minutes: float = 5.0
    low: float = 1.0
    high: float = 6.0
    folders: list[str] = field(default_factory=list)
    seed: int = 0

    def problems(self) -> list[str]:
        found = [] if 0 < self.minutes < float("inf") else [f"minutes: {self.minutes} is not above 0"]
        if not 0.2 <= self.low <= self.high <= 30:
            found.append(f"low, high: {self.low} and {self.high} are not seconds between 0.2 and 30 in order")
        return found


def prepare_nonspeech(out: str | os.PathLike, config: NonspeechConfig | None = None, *, force: bool = False) -> Path:
    """Make the clips under `out`, unless they are there → the cuts.

    Raises:
        ValueError: options out of range, or a folder without audio.
    """
    config = config or NonspeechConfig()
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    cuts, audio = cuts_path(out, config.split), out / "audio" / config.split
    stamps = [file_stamps(p for p in Path(folder).rglob("*") if p.is_file()) for folder in config.folders]
    made = fingerprint(version=_VERSION, stamps=stamps, **asdict(config))
    if not force and cuts.is_file() and read_json(audio / _MADE).get("fingerprint") == made:
        return cuts
    shutil.rmtree(audio, ignore_errors=True)
    audio.mkdir(parents=True)
    save_cuts(_write(_clips(config), audio, config), cuts)
    write_json(audio / _MADE, {"fingerprint": made})
    return cuts


def _clips(config: NonspeechConfig) -> Iterator[Tensor]:
    """Waveforms [S] until the minutes are full."""
    from voxkit.data.nonspeech_clips import MADE, folder_clips, made

    rng = random.Random(config.seed)
    total, wanted = 0.0, 60 * config.minutes
    if config.folders:
        found = [wave for folder in config.folders for _, _, wave in folder_clips(folder, config.minutes, config.high)]
        rng.shuffle(found)
        for wave in found:
            if total >= wanted / 2:
                break
            if len(wave) < config.low * RATE:
                continue
            size = int(min(len(wave), rng.uniform(config.low, config.high) * RATE))
            yield wave[:size]
            total += size / RATE
    while total < wanted:
        seconds = rng.uniform(config.low, config.high)
        yield made(rng.choice(MADE), seconds, rng.getrandbits(31))
        total += seconds


def _write(clips: Iterator[Tensor], directory: Path, config: NonspeechConfig) -> Iterator[Cut]:
    import soundfile

    for n, wave in enumerate(clips):
        id = f"{config.split}-{n:05d}"
        path = directory / f"{id}.flac"
        soundfile.write(path, wave.numpy(), RATE)
        cut = file_cut(id, str(path), len(wave), "")
        cut.supervisions[0].custom = {"nonspeech": True}
        yield cut


def add_arguments(parser: Any) -> Callable:
    """Options of `voxkit prepare nonspeech`; returns what runs them."""
    defaults = asdict(NonspeechConfig())
    for name, what in (("split", "name of what is made"), ("minutes", "of it in all"), ("low", "seconds of the shortest clip"),
                       ("high", "seconds of the longest clip"), ("seed", "of every draw")):
        parser.add_argument("--" + name, type=type(defaults[name]), default=defaults[name], help=f"{what} (default {defaults[name]})")
    parser.add_argument("--folders", nargs="*", default=[], help="recordings without speech, for half of the minutes")

    def prepare(args: Any, checks: Any) -> None:
        cuts = prepare_nonspeech(args.out, NonspeechConfig(**{name: getattr(args, name) for name in defaults}), force=args.force)
        print(cuts)

    return prepare
