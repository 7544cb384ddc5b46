"""Choosing the weights of searches (language model, length bonus, CTC, phrases) on a development set, which is encoded once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxkit.data.sets import read_sets, split_path, split_share
from voxkit.experiments import records
from voxkit.experiments.decode import checkpoint_inputs, checkpoint_of, cuts_of, located_models
from voxkit.experiments.search import Say, Search, build_search, open_checkpoint, silent
from voxkit.experiments.settings import COORDINATES, GRID, SearchSettings, option
from voxkit.infer.decoding import EncodedBatch, encode_cuts
from voxkit.infer.tuning import coordinate_search, word_error_rate
from voxkit.search.method import looks_at

WHERE = "what tune writes, by default decode/tuned.json in a run"
_COUPLED = ("lm_weight", "length_bonus")  # the more a language model counts, the shorter texts get


@dataclass(frozen=True)
class TuneJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME for the newest run of that name.
    set: prepared set, or path of cuts; name:0.25 is a quarter of one.
    methods: searches to tune.
    search: what they are given; a weight of it is fixed.
    values: name of COORDINATES → the values that are tried, of those that differ from GRID.
    data_dir, normalize, limit, device, overrides: as of DecodeJob.
    out: file, None: decode/tuned.json of the run.
    """

    checkpoint: str
    set: str
    methods: tuple[str, ...]
    search: SearchSettings = field(default_factory=SearchSettings)
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    data_dir: str | None = None
    normalize: str | None = None
    limit: int = 0
    out: str | None = None
    device: str = "auto"
    overrides: tuple[str, ...] = ()

    def check(self) -> None:
        """
        Raises:
            ValueError: values of a weight that is fixed, or that would count for nothing; no method; an unknown name of values.
        """
        if not self.methods:
            raise ValueError("give the searches to tune (--methods)")
        for name in self.values:
            if name not in COORDINATES:
                raise ValueError(f"values: {name!r} is none of {', '.join(COORDINATES)}")
            if self.search.given(COORDINATES[name]) is not None:
                raise ValueError(f"{option(name)} and {option(COORDINATES[name])}: the one is tried, the other fixes it; omit one of them")
        self.search.check(self.methods, self.values)


@dataclass(frozen=True)
class Tuning:
    """best: method → weights, WER in percent and how many settings were tried; utterances: of the set; record: what --tuned reads."""

    best: dict[str, dict[str, float]]
    utterances: int
    record: records.Record


def tune(job: TuneJob, say: Say = silent) -> Tuning:
    """Tune, and write the file that `tuned` of SearchSettings takes.

    Args:
        say: gets every setting with its WER.

    Raises:
        ValueError: options that cannot be, nothing to choose, a set or checkpoint that is not there.
    """
    job.check()
    opened = open_checkpoint(job.checkpoint, job.device, job.overrides)
    job = replace(job, normalize=job.normalize or opened.config.decode.normalize)
    search = build_search(job.search, opened, say)
    search.check(job.methods, say)
    grids = {method: choices_of(job, search, method) for method in job.methods}
    for method, grid in grids.items():
        for limit in grid.get("length_limit", []):
            search.recognizer.check(search.of(method, length_limit=limit))
    data_dir = job.data_dir or opened.config.data.data_dir
    cuts = read_sets(data_dir, [job.set], job.limit)
    failures: dict[str, str] = {}
    encoded = list(encode_cuts(search.recognizer, cuts, opened.config.data, job.set, failures))
    for id, reason in failures.items():
        say(f"{id}: left out: {reason}")
    best = {method: _best(job, search, encoded, method, grid, say) for method, grid in grids.items()}
    path = Path(job.out) if job.out else opened.kept / "tuned.json"
    utterances = sum(len(batch.ids) for batch in encoded)
    name, share = split_share(job.set)
    inputs = {**checkpoint_inputs(opened, path), "cuts": records.stamp(split_path(data_dir, name), path),
              **{model: records.stamp(file, path) for model, file in search.files.items()}}
    made = records.made_by("torch", device=str(opened.recognizer.device), step=str(opened.loaded.meta.get("step")),
                           tokenizer=opened.recognizer.vocabulary.fingerprint())
    record = records.Record("tune", records.as_json(replace(job, set=f"{name}:{share:g}", out=None)), inputs, made,
                            {"utterances": utterances, "methods": best}, path)
    record.write()
    return Tuning(best, utterances, record)


def tune_again(path: str, *, device: str = "auto", data_dir: str | None = None, out: str | None = None,
               say: Say = silent) -> tuple[records.Record, Tuning, list[str]]:
    """Repeat a tuning from its record → the record, what came now, and what differs.

    Raises:
        ValueError: the record is none, or would be overwritten; an input is not there any more, or has changed.
    """
    known = records.read_record(path, "tune", WHERE)
    target = Path(out) if out else known.again_folder(None) / known.path.name
    if target.resolve() == known.path.resolve():
        raise ValueError(f"--out {target}: the record itself would be overwritten; give another file")
    job = records.from_json(TuneJob, known.job)
    share = split_share(job.set)[1]
    job = replace(job, checkpoint=checkpoint_of(known), search=located_models(known, job.search), data_dir=None, out=str(target),
                  set=f"{cuts_of(known, data_dir)}:{share:g}", device=device)
    now = tune(job, say)
    return known, now, records.differences(known.result["methods"], now.best)


def choices_of(job: TuneJob, search: Search, method: str) -> dict[str, Sequence[float]]:
    """Option of the search → values to try, for one method; only those that change what it finds. What is fixed of its other weights is
    there too, as the only value, so that the file keeps what the rest was chosen with.

    Raises:
        ValueError: there is nothing to choose.
    """
    options, weights = search.of(method), search.recognizer.method(method).weights
    by_text = options.lm is not None or options.rescore_lm is not None
    weighs_ctc = "ctc_weight" in weights and search.recognizer.model.heads.ctc is not None
    # where CTC is in the scores already it limits the length, and a limit of its own is tried on request alone
    limits = "length_limit" in weights and ("length_limits" in job.values or not looks_at(method, "ctc_weight"))
    matters = {"ctc_weights": weighs_ctc, "lm_weights": options.lm is not None, "rescore_weights": options.rescore_lm is not None,
               "length_bonuses": by_text and "length_bonus" in weights, "length_limits": limits, "boosts": options.context is not None}
    found: dict[str, Sequence[float]] = {}
    for key, weight in COORDINATES.items():
        if matters[key]:
            fixed = job.search.given(weight)
            found[weight] = job.values.get(key, GRID[key]) if fixed is None else (fixed,)
    if not found:
        raise ValueError(f"--methods {method}: there is nothing to choose without --lm, --rescore-lm or --phrases that it takes; give "
                         "what it takes (docs/decoding.md), or omit the method")
    others = {name: (value,) for name, value in job.search.weights.items() if name in weights and name != "beam"}
    return {**found, **others}


def _best(job: TuneJob, search: Search, encoded: list[EncodedBatch], method: str, grid: dict[str, Sequence[float]],
          say: Say) -> dict[str, float]:
    """The best setting of one method, its WER in percent and how many were tried."""
    lowest = math.inf

    def measure(setting: Mapping[str, float]) -> float:
        nonlocal lowest
        changes: dict[str, Any] = dict(setting)
        if "boost" in changes:
            changes["context"] = search.recognizer.phrases(job.search.boosted(changes.pop("boost")))
        wer, whole = word_error_rate(search.recognizer, encoded, search.of(method, **changes), str(job.normalize), below=lowest)
        lowest = min(lowest, wer)
        chosen = [f"{name} {value:g}" for name, value in setting.items()]
        say(", ".join([f"method {method}", *chosen, f"WER {'' if whole else 'at least '}{100 * wer:.2f}"]))
        return wer

    tried = coordinate_search(measure, grid, together=_COUPLED)
    best = min(tried, key=lambda setting: tried[setting])
    return {**dict(best), "WER": round(100 * tried[best], 4), "tried": len(tried)}
