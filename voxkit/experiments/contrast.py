"""Does carried state help? The same utterances and weights, read with the session's own state, with another session's, and without.

Without the third reading a gain would prove nothing: what any speech does to the fast weights may help too, or do harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from voxkit import files
from voxkit.batch import Batch, turns
from voxkit.data.sessions import build_session_loader, speaker_of
from voxkit.data.sets import read_sets
from voxkit.encoders.lact import Carried
from voxkit.eval.intervals import paired_interval
from voxkit.eval.wer import WerResult, score
from voxkit.experiments.search import open_checkpoint
from voxkit.models.contract import Encoded
from voxkit.models.lact_asr import LaCTASR, take_carried
from voxkit.search.options import SearchOptions

READINGS = ("reset", "carried", "other", "still")


@dataclass(frozen=True)
class ContrastJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME, of a model that carries state.
    sets: prepared sets, whose cuts name speakers; sessions are theirs in the sets' order, under `data.sessions.dev_condition`.
    data_dir: of the sets; None: as in training.
    utterances: in a session; beam and method of the search.
    out: where the figures go, JSON; None: nowhere.
    device; overrides: `a.b=c` over the checkpoint's configuration, e.g. data.sessions.dev_condition.gain_prob=0.
    """

    checkpoint: str
    sets: tuple[str, ...]
    data_dir: str | None = None
    utterances: int = 8
    method: str = "greedy"
    beam: int = 10
    out: str | None = None
    device: str = "auto"
    overrides: tuple[str, ...] = ()


@dataclass
class Contrast:
    """What was found, of utterances from the second of a session on.

    Attributes:
        results: reading → errors.
        differences: reading → (relative difference of its rate to that of "reset", low, high), resampled over speakers.
        own_against_other: likewise of "carried" to "other".
        by_place: reading → error rate of the first, second, ... utterance of a session.
        sessions, speakers: how many.
    """

    results: dict[str, WerResult]
    differences: dict[str, tuple[float, float, float]]
    own_against_other: tuple[float, float, float]
    by_place: dict[str, list[float]]
    sessions: int
    speakers: int

    def figures(self) -> dict[str, Any]:
        """As plain numbers."""
        return {"wer": {name: result.rate for name, result in self.results.items()}, "relative_to_reset": self.differences,
                "carried_to_other": self.own_against_other, "by_place": self.by_place, "sessions": self.sessions, "speakers": self.speakers}


@dataclass
class _Heard:
    """Of one utterance: id, place in its session, text of each reading."""

    id: str
    place: int
    texts: dict[str, str] = field(default_factory=dict)


def contrast(job: ContrastJob) -> Contrast:
    """Read the sets in every way.

    Raises:
        ValueError: a model that carries nothing, sets without sessions of two utterances.
    """
    opened = open_checkpoint(job.checkpoint, job.device, job.overrides)
    model, config = opened.recognizer.model, opened.loaded.setup.config
    if not isinstance(model, LaCTASR) or not model.carries:
        raise ValueError(f"{job.checkpoint} carries nothing from one utterance to the next: give a run of system lact_asr with "
                         "encoder.kind lact")
    data_dir = job.data_dir or config.data.data_dir
    cuts = list(read_sets(data_dir, list(job.sets)))
    speakers = {cut.id: speaker_of(cut) for cut in cuts}
    sessions = replace(config.data.sessions, dev_utterances=job.utterances)
    loader = build_session_loader(cuts, None, config.data, sessions, seed=config.seed, train=False)
    options, references, heard, names = SearchOptions(method=job.method, beam=job.beam), {}, [], set()
    with torch.inference_mode():
        for batch in loader:
            assert batch.texts is not None and batch.sessions is not None
            references.update(zip(batch.ids, batch.texts))
            names.update(batch.sessions)
            heard += _read(batch.to(opened.recognizer.device), model, opened.recognizer, options)
    found = summary(heard, references, speakers, len(names))
    if job.out is not None:
        files.write_json(Path(job.out), {"job": asdict(job), **found.figures()})
    return found


def summary(heard: list[_Heard], references: Mapping[str, str], speakers: Mapping[str, str], sessions: int) -> Contrast:
    """Texts → figures; only utterances that were read in every way count."""
    whole = [one for one in heard if one.place > 0 and set(one.texts) == set(READINGS)]
    if not whole:
        raise ValueError("no session has a second utterance that another session's state could be tried on: give sets whose speakers say "
                         "more than one thing each, and more speakers than one")
    ids = [one.id for one in whole]
    results = {name: score({i: references[i] for i in ids}, {one.id: one.texts[name] for one in whole}) for name in READINGS}
    errors = {name: {u.id: u.errors for u in result.utterances} for name, result in results.items()}
    words = {u.id: len(u.reference) for u in results["reset"].utterances}
    groups = [speakers[i] for i in ids]

    def against(a: str, b: str) -> tuple[float, float, float]:
        if not results[b].errors:
            return float("nan"), float("-inf"), float("inf")
        return paired_interval([errors[a][i] for i in ids], [errors[b][i] for i in ids], [words[i] for i in ids], groups)

    by_place: dict[str, list[float]] = {name: [] for name in READINGS[:2]}
    for place in range(max(one.place for one in heard) + 1):
        here = [one for one in heard if one.place == place]
        for name in by_place:
            texts = {one.id: one.texts[name] for one in here if name in one.texts}
            by_place[name].append(score({i: references[i] for i in texts}, texts).rate)
    return Contrast(results, {name: against(name, "reset") for name in READINGS[1:]}, against("carried", "other"), by_place, sessions,
                    len(set(groups)))


def _read(batch: Batch, model: LaCTASR, recognizer: Any, options: SearchOptions) -> Iterator[_Heard]:
    """Every utterance of a batch of sessions, in every way that there is for it."""
    own: Carried | None = None
    before: list[int] = []
    for place, rows in enumerate(turns(batch.sessions or [])):
        parts = [batch.take(slice(row, row + 1)) for row in rows]
        if own is not None:
            at = {(batch.sessions or [])[row]: n for n, row in enumerate(before)}
            own = take_carried(own, torch.tensor([at[(batch.sessions or [])[row]] for row in rows]), len(before))
        states: dict[str, Carried | None] = {"reset": None, "carried": own}
        if own is not None and len(rows) > 1:
            states["other"] = take_carried(own, torch.arange(len(rows)).roll(1), len(rows))
        found = [_Heard(part.ids[0], place) for part in parts]
        for name, state in states.items():
            encoded, after = _encode(parts, model, state)
            for one, hypothesis in zip(found, recognizer.search(encoded, options)):
                one.texts[name] = hypothesis.text
            if name == "carried":
                carried_on = after
        model.encoder.set_updates(False)
        for one, hypothesis in zip(found, recognizer.search(_encode(parts, model, None)[0], options)):
            one.texts["still"] = hypothesis.text
        model.encoder.set_updates(model.encoder.config.updates)
        own, before = carried_on, rows
        yield from found


def _encode(parts: list[Batch], model: LaCTASR, state: Carried | None) -> tuple[Encoded, Carried]:
    """Utterances one by one, as in use, with the state of each → together, and their states after it."""
    encoded = []
    for n, part in enumerate(parts):
        own = None if state is None else take_carried(state, torch.tensor([n]), len(parts))
        encoded.append(model.encode(part, own))
    longest = max(one.states.shape[1] for one in encoded)
    states = torch.cat([torch.nn.functional.pad(one.states, (0, 0, 0, longest - one.states.shape[1])) for one in encoded])
    after = tuple(torch.cat(tensors) for tensors in zip(*(one.carried for one in encoded)))
    return Encoded(states, torch.cat([one.lengths for one in encoded]), torch.cat([one.seconds for one in encoded])), after
