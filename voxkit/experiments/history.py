"""Is what was said before worth anything? Teacher-forced loss of the same frames after their own history, another speaker's, and none.

A contrast within one model, which needs no generation and no listeners: the figure of LaCT audio with the least noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from voxkit import files
from voxkit.batch import Batch, Padded
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.data.reader import load_samples
from voxkit.data.sessions import speaker_of
from voxkit.data.sets import read_sets
from voxkit.eval.intervals import mean_interval
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.models.lact_audio import LaCTAudioGenerator
from voxkit.rate import RATE

HISTORIES = ("own", "other", "none")


@dataclass(frozen=True)
class HistoryJob:
    """Attributes:
    checkpoint: of a generator. sets, data_dir: prepared sets, whose cuts name speakers.
    history: seconds heard before; target: seconds whose loss is taken, in windows of `window` seconds.
    beyond: seconds of the target from which on the windows of attention reach no history any more.
    out: JSON; empty: none.
    """

    checkpoint: str
    sets: tuple[str, ...]
    data_dir: str = "data"
    history: float = 60.0
    target: float = 60.0
    window: float = 10.0
    beyond: float = 20.0
    out: str = ""
    device: str = "cpu"


@dataclass
class Histories:
    """What was found. Attributes:
    places: seconds where each window of the target begins.
    losses: history → window → nats per code, mean over speakers.
    differences: "other" and "none" → (own less that, low, high) over the windows from `beyond` on, 95 % over speakers.
    speakers: how many.
    """

    places: list[float]
    losses: dict[str, list[float]]
    differences: dict[str, tuple[float, float, float]]
    speakers: int


@torch.inference_mode()
def compare_histories(job: HistoryJob) -> Histories:
    """Every speaker with enough to say, read after each history; the other speaker is the next one of the set.

    Raises:
        ValueError: another system, or fewer than two speakers with enough to say.
    """
    loaded = load_checkpoint(job.checkpoint, job.device)
    model = loaded.model
    if not isinstance(model, LaCTAudioGenerator):
        raise ValueError(f"{job.checkpoint} generates no audio; give a run of system lact_audio")
    rate = loaded.vocabulary.codec.frame_rate
    before, after, size = (round(seconds * rate) for seconds in (job.history, job.target, job.window))
    said = joined_codes(loaded.vocabulary, read_sets(job.data_dir, list(job.sets)), before + after)
    names = list(said)
    if len(names) < 2:
        raise ValueError(f"{len(names)} speakers say {job.history + job.target:g} s in {', '.join(job.sets)}, and it takes two: lower "
                         "--history or --target, or name more sets")
    found: dict[str, list[Tensor]] = {history: [] for history in HISTORIES}
    for n, name in enumerate(names):
        target = Batch([name], codes=Padded.of([said[name][before:]])).to(job.device)
        for history in HISTORIES:
            state = model.init_state(1, job.device)
            if history != "none":
                heard = said[name if history == "own" else names[(n + 1) % len(names)]][:before]
                state = model.listen(heard[None].to(job.device), state)
            losses = model.losses(target, state)[0][0].mean(-1).cpu()
            found[history].append(torch.stack([piece.mean() for piece in losses.split(size)]))
    result = summary(found, names, job)
    if job.out:
        files.write_json(job.out, {"job": asdict(job), **asdict(result)})
    return result


def summary(found: dict[str, list[Tensor]], names: Sequence[str], job: HistoryJob) -> Histories:
    """History → speaker → loss of each window, as means and differences."""
    stacked = {history: torch.stack(rows) for history, rows in found.items()}
    places = [n * job.window for n in range(stacked["own"].shape[1])]
    far = torch.tensor([place >= job.beyond for place in places])
    if not bool(far.any()):
        raise ValueError(f"beyond: {job.beyond:g} s leave nothing of a target of {job.target:g} s; lower it")
    differences = {history: mean_interval((stacked["own"] - stacked[history])[:, far].mean(1).tolist(), names) for history in HISTORIES[1:]}
    return Histories(places, {history: rows.mean(0).tolist() for history, rows in stacked.items()}, differences, len(names))


def joined_codes(tokenizer: AudioTokenizer, cuts: Any, frames: int) -> dict[str, Tensor]:
    """Speaker → the first `frames` codes [T, Q] of what they say, utterances joined; only those who say as much."""
    found: dict[str, list[Tensor]] = {}
    for cut in cuts:
        own = found.setdefault(speaker_of(cut), [])
        if sum(map(len, own)) < frames:
            own.append(tokenizer.encode(torch.from_numpy(load_samples(cut)), RATE).cpu())
    whole = {speaker: torch.cat(own) for speaker, own in found.items()}
    return {speaker: codes[:frames] for speaker, codes in whole.items() if len(codes) >= frames}
