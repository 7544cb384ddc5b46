"""Transcribing prepared sets with a checkpoint by one or more searches: hypotheses, error rates, speed, and a record of each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxkit import files
from voxkit.align import formats as words
from voxkit.align.timing import TokenTiming, WordTiming
from voxkit.data.sets import read_sets, split_path, split_share
from voxkit.eval.normalize import normalization
from voxkit.eval.table import rename_csv
from voxkit.eval.texts import write_texts
from voxkit.experiments import measures, records
from voxkit.experiments.calibrate import calibrate
from voxkit.experiments.search import Opened, Say, Search, build_search, open_checkpoint, set_chunk, silent
from voxkit.experiments.settings import MODELS, SearchSettings
from voxkit.infer.calibration import read_calibration, timing_of
from voxkit.infer.decoding import Decoded, decode_by_searches, model_size, stream_by_searches

WHERE = "decode/SET_METHOD.json in a run"
_TABLE = "results.csv"
_COMPARED = ("WER", "sub", "del", "ins", "ECE", "ms off", "texts")  # of a result: figures that are the same when it is repeated
_SUFFIXES = ("json", "jsonl", "tsv", "ctm", "srt", "vtt", "TextGrid", "html")
_NO_MATTER = ("checkpoint", "sets", "formats", "device", "words", "out", "data_dir")  # of a job: they do not decide what is found


@dataclass(frozen=True)
class Fitted:
    """What was fitted for a search: temperature of the confidences (None: nothing), timing of the words as calibrations keep it."""

    temperature: float | None = None
    timing: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class DecodeJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME for the newest run of that name.
    sets: prepared sets, or paths of cuts; name:0.25 is a quarter of one.
    methods: searches; none: the configuration's.
    search: what they are given.
    words: also word times and confidences; formats: files of words besides, of ctm, srt, vtt, textgrid.
    calibrate: set on which confidences and word times are fitted first; calibrate_limit: only its first utterances.
    fitted: what was fitted, in the place of what is kept in `out` or in the run.
    latency: utterances of which latency is measured.
    stream, chunk_ms, left_ms: decode as it is spoken; the encoder's chunk and what it sees before one.
    data_dir: of prepared sets, None: as in training; normalize: rule for both texts before scoring, None: the configuration's.
    limit: first utterances of a set.
    out: folder, None: decode/ of the run; device; overrides: `a.b=c` over the checkpoint's configuration.
    """

    checkpoint: str
    sets: tuple[str, ...]
    methods: tuple[str, ...] = ()
    search: SearchSettings = field(default_factory=SearchSettings)
    words: bool = True
    formats: tuple[str, ...] = ()
    calibrate: str | None = None
    calibrate_limit: int = 0
    fitted: Fitted | None = None
    latency: int = 0
    stream: bool = False
    chunk_ms: float | None = None
    left_ms: float | None = None
    data_dir: str | None = None
    normalize: str | None = None
    limit: int = 0
    out: str | None = None
    device: str = "auto"
    overrides: tuple[str, ...] = ()

    def check(self) -> None:
        """
        Raises:
            ValueError: parts that exclude each other.
        """
        if not self.sets:
            raise ValueError("give the sets to decode (--sets)")
        if not self.words and (self.formats or self.calibrate):
            raise ValueError("--no-words leaves out what --formats writes and --calibrate fits: omit it")
        if self.stream and self.latency:
            raise ValueError("--latency measures whole utterances; with --stream the table has its own delays: omit it")


@dataclass(frozen=True)
class Decoding:
    """One set by one method: the row of the table, everything found, and the record."""

    row: dict[str, Any]
    found: Decoded
    record: records.Record


def decode(job: DecodeJob, say: Say = silent) -> list[Decoding]:
    """Decode every set by every method, write hypotheses, records and results.csv.

    Args:
        say: gets what is worth knowing while it works.

    Raises:
        ValueError: options that cannot be, a set or checkpoint that is not there.
    """
    job.check()
    opened = open_checkpoint(job.checkpoint, job.device, job.overrides)
    job = replace(job, normalize=job.normalize or opened.config.decode.normalize)
    rule = normalization(str(job.normalize))
    recognizer, data = opened.recognizer, opened.config.data
    out = Path(job.out) if job.out else opened.kept
    methods = job.methods or (opened.config.decode.method,)
    chunk = set_chunk(opened, job.search, methods, job.stream, job.chunk_ms, job.left_ms)
    search = build_search(job.search, opened, say, chunk=chunk, stream=job.stream, words=job.words)
    search.check(methods, say)
    data_dir = job.data_dir or data.data_dir
    if job.calibrate:
        held_out = read_sets(data_dir, [job.calibrate], job.calibrate_limit)
        calibrate(search, methods, held_out, data, out, rule, job.calibrate, say)
    fitted = {method: job.fitted or _fitted(search, method, out, opened.kept, say) for method in methods}
    if job.words and not any(f.timing for f in fitted.values()) and any(map(recognizer.spikes_of, methods)):
        say("word times are not fitted, they are where tokens spike: --calibrate, with a set that knows them, brings them to the words")
    searches = [search.of(method, temperature=f.temperature or 1.0, timing=_timing(f)) for method, f in fitted.items()]
    weights, written = records.stamp(opened.loaded.path / "model.safetensors", out / "x"), []
    for name in job.sets:
        cuts = read_sets(data_dir, [name], job.limit)
        if job.stream:
            decoded = stream_by_searches(recognizer, cuts, searches, data, name, chunk_ms=job.chunk_ms, left_ms=job.left_ms)
        else:
            decoded = decode_by_searches(recognizer, cuts, searches, data, name)
        for id, reason in decoded[0].failures.items():
            say(f"{id}: not decoded: {reason}")
        whole = set_name(name) + (f"-first{job.limit}" if job.limit else "")  # a part never replaces the whole
        for method, options, found in zip(methods, searches, decoded):
            row = {"set": whole, "method": search.label(method), "beam": options.beam if recognizer.method(method).beam else "",
                   **measures.scores(found, cuts, str(job.normalize)), **measures.token_errors(found, recognizer.vocabulary),
                   **measures.stopped(found)}
            if options.words:
                row |= measures.word_scores(found, cuts, rule, fitted[method].temperature is not None)
            row |= measures.delay_columns(cuts, found.changes)
            row |= measures.latency(job.latency, recognizer, cuts, options, say)
            row |= {"MB peak": f"{found.memory:.0f}", "MB model": f"{model_size(recognizer.model):.1f}"}
            stem = f"{whole}_{search.label(method)}"
            record = _record(job, out / f"{stem}.json", opened, search, method, name, data_dir, fitted[method], weights,
                             row | {"texts": records.sha256_of_texts(found.texts)})
            _set_aside(out, stem, record)
            _write(out, whole, stem, found, job.formats)
            record.write()
            files.append_csv(out / _TABLE, {"date": record.made["date"], **row, "checkpoint": str(opened.loaded.path),
                                            "step": record.made["step"], "git": record.made["git"], "record": record.path.name})
            written.append(Decoding(row, found, record))
    return written


def decode_again(path: str, *, device: str = "auto", data_dir: str | None = None, out: str | None = None,
                 say: Say = silent) -> tuple[records.Record, Decoding, list[str]]:
    """Repeat a decoding from its record → the record, what came now, and what differs.

    Raises:
        ValueError: the record is none; checkpoint, cuts, language model or graph are not there any more, or have changed.
    """
    known = records.read_record(path, "decode", WHERE)
    folder = known.again_folder(out)
    job = records.from_json(DecodeJob, known.job)
    name, share = split_share(job.sets[0])
    job = replace(job, checkpoint=checkpoint_of(known), search=located_models(known, job.search), out=str(folder), device=device,
                  data_dir=None, sets=(f"{cuts_of(known, data_dir)}:{share:g}",))
    now = decode(job, say)[0]
    kept = {key: known.result[key] for key in _COMPARED if key in known.result}
    return known, now, records.differences(kept, {key: now.record.result.get(key) for key in kept})


def set_name(of_set: str) -> str:
    """A set's name, also where it is given as a path of cuts, with its share."""
    name, share = split_share(of_set)
    whole = Path(name).name.removeprefix("cuts_").removesuffix(".gz").removesuffix(".jsonl")
    return whole if share == 1 else f"{whole}-{share:g}"


def checkpoint_inputs(opened: Opened, path: Path, weights: dict[str, str] | None = None) -> dict[str, dict[str, str]]:
    """The files of a checkpoint as inputs of a record that lies at `path`; `weights`: their stamp, where it is known already."""
    folder = opened.loaded.path
    return {"weights": weights or records.stamp(folder / "model.safetensors", path),
            "configuration": records.stamp(folder / "config.yaml", path)}


def checkpoint_of(record: records.Record) -> str:
    """Where the checkpoint of a record is now.

    Raises:
        ValueError: its weights or configuration are not there any more, or have changed.
    """
    record.located("configuration", "configuration")
    return str(Path(record.located("weights", "weights")).parent)


def located_models(record: records.Record, settings: SearchSettings) -> SearchSettings:
    """The settings with language models and graph where they are now.

    Raises:
        ValueError: one is not there any more, or has changed.
    """
    found: dict[str, Any] = {name: record.located(name, what) for name, what in MODELS.items() if name in record.inputs}
    return replace(settings, **found)


def cuts_of(record: records.Record, data_dir: str | None) -> str:
    """Where the cuts of a record are; `data_dir`: look there.

    Raises:
        ValueError: they are not there any more, or have changed.
    """
    if data_dir:
        moved = {**record.inputs["cuts"], "path": str(Path(data_dir) / Path(record.inputs["cuts"]["path"]).name)}
        record = replace(record, inputs={**record.inputs, "cuts": moved})
    return record.located("cuts", "cuts", "; say with --data-dir where")


def _fitted(search: Search, method: str, out: Path, kept: Path, say: Say) -> Fitted:
    content = read_calibration(out) or read_calibration(kept)
    known, why = search.fitted(content, method)
    if search.options.words and why:
        say(f"confidences are not calibrated: {why}")
    timing = timing_of(content, search.recognizer.spikes_of(method))
    return Fitted(known["temperature"] if known else None, vars(timing) if timing else None)


def _timing(fitted: Fitted) -> TokenTiming | WordTiming | None:
    return timing_of({"timing": fitted.timing})


def _record(job: DecodeJob, path: Path, opened: Opened, search: Search, method: str, name: str, data_dir: str, fitted: Fitted,
            weights: dict[str, str], result: dict[str, Any]) -> records.Record:
    """The record of one set by one method: the job that gives this result alone, whatever else was given or was kept in the run."""
    cuts, share = split_share(name)
    alone = replace(job, sets=(f"{cuts}:{share:g}",), methods=(method,), search=search.resolved(method), fitted=fitted, calibrate=None,
                    calibrate_limit=0, latency=0, out=None)
    inputs = {**checkpoint_inputs(opened, path, weights), "cuts": records.stamp(split_path(data_dir, cuts), path),
              **{model: records.stamp(search.files[model], path) for model in search.models_of(method)}}
    made = records.made_by("torch", device=str(opened.recognizer.device), step=str(opened.loaded.meta.get("step")),
                           tokenizer=opened.recognizer.vocabulary.fingerprint())
    return records.Record("decode", records.as_json(alone), inputs, made, result, path)


def _write(out: Path, name: str, stem: str, found: Decoded, formats: tuple[str, ...]) -> None:
    write_texts(out / f"{stem}.tsv", found.texts)
    write_texts(out / f"{name}_reference.tsv", found.references)
    lines = [json.dumps({"id": id, "reference": found.references[id], **h.to_json()}, ensure_ascii=False)
             for id, h in found.hypotheses.items()]
    files.write_text(out / f"{stem}.jsonl", "".join(line + "\n" for line in lines))
    for kind in formats:
        words.write(out / f"{stem}.{words.suffix(kind)}", found.hypotheses, kind)


def _set_aside(out: Path, stem: str, record: records.Record) -> None:
    """Where `out` holds the same set by the same method, but decoded with other weights, beam, models or data, its files become
    STEM.1.json and so on, and its rows of results.csv name them so: nothing is overwritten but by its like."""
    try:
        before = records.read_record(out / f"{stem}.json", "decode", WHERE)
    except ValueError:
        return
    if _decided(before) == _decided(record):
        return
    number = next(n for n in itertools.count(1) if not (out / f"{stem}.{n}.json").exists())
    for end in ("", *(f".{suffix}" for suffix in _SUFFIXES)):  # a folder holds the formats of one file an utterance
        if (out / f"{stem}{end}").exists():
            (out / f"{stem}{end}").rename(out / f"{stem}.{number}{end}")
    aside = out / f"{stem}.{number}.json"
    replace(before, path=aside).write()
    rename_csv(out / _TABLE, "record", f"{stem}.json", aside.name)


def _decided(record: records.Record) -> Any:
    """What decided a result: the job but for where things lie and what is written besides, and the content of the inputs."""
    job = {key: value for key, value in record.job.items() if key not in _NO_MATTER}
    job["search"] = {key: value for key, value in job["search"].items() if key not in MODELS}
    return job, {name: known["sha256"] for name, known in record.inputs.items()}, split_share(record.job["sets"][0])[1]
