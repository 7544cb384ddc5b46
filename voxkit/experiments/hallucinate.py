"""What a checkpoint says where nobody speaks, in words per minute: on silence and noises made on the spot, and on recordings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from voxkit import files
from voxkit.experiments import records
from voxkit.experiments.decode import checkpoint_inputs, checkpoint_of, located_models
from voxkit.experiments.search import Say, build_search, open_checkpoint, silent
from voxkit.experiments.settings import SearchSettings
from voxkit.infer.nonspeech import folder_clips, hallucinations, made_clips
from voxkit.text.intents import CONFIDENCE, Matcher
from voxkit.text.pack import load_pack

WHERE = "decode/hallucination_METHOD.json in a run"


@dataclass(frozen=True)
class HallucinateJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME for the newest run of that name.
    folders: recordings without speech, besides what is made; each subfolder is a condition.
    minutes: of each condition; seconds: of a clip.
    commands: pack; clips that are answered with one of its commands are counted. command_confidence: below which none is.
    methods, search, out, device, overrides: as of DecodeJob.
    """

    checkpoint: str
    folders: tuple[str, ...] = ()
    minutes: float = 2.0
    seconds: float = 10.0
    commands: str | None = None
    command_confidence: float = CONFIDENCE
    methods: tuple[str, ...] = ()
    search: SearchSettings = field(default_factory=SearchSettings)
    out: str | None = None
    device: str = "auto"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hallucinations:
    """One method: a row of the table for each condition, and the record."""

    rows: list[dict[str, Any]]
    record: records.Record


def hallucinate(job: HallucinateJob, say: Say = silent) -> list[Hallucinations]:
    """Recognize, and write what was said, a record of each method and hallucination.csv.

    Raises:
        ValueError: options that cannot be, a checkpoint or folder that is not there.
    """
    if not (job.minutes > 0 and job.seconds > 0):
        raise ValueError("--minutes and --seconds must be above 0")
    matcher = Matcher(load_pack(job.commands), job.command_confidence) if job.commands else None
    opened = open_checkpoint(job.checkpoint, job.device, job.overrides)
    out = Path(job.out) if job.out else opened.kept
    methods = job.methods or (opened.config.decode.method,)
    search = build_search(job.search, opened, say)
    search.check(methods, say)
    weights = records.stamp(opened.loaded.path / "model.safetensors", out / "x")
    folders = {f"recordings {i}": records.stamp(folder, out / "x") for i, folder in enumerate(job.folders, 1)}
    made = records.made_by("torch", device=str(opened.recognizer.device), step=str(opened.loaded.meta.get("step")))
    written = []
    for method in methods:
        clips = chain(made_clips(job.minutes, job.seconds), *(folder_clips(f, job.minutes, job.seconds) for f in job.folders))
        label = search.label(method)
        found = hallucinations(opened.recognizer, clips, search.of(method))
        path, rows = out / f"hallucination_{label}.json", []
        for condition, h in found.items():
            rows.append({"method": label, "condition": condition, "minutes": f"{h.seconds / 60:.1f}", "clips": h.clips,
                         "with words": h.speaking, "words": h.words, "words/min": f"{h.per_minute:.2f}"})
            if matcher:
                rows[-1]["commands"] = sum(matcher.answer(text) is not None for text in h.said.values())
            files.append_csv(out / "hallucination.csv", {"date": made["date"], **rows[-1], "checkpoint": str(opened.loaded.path),
                                                         "record": path.name})
        said = [{"id": id, "text": text} for id, text in found["all"].said.items()]
        files.write_text(path.with_suffix(".jsonl"), "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in said))
        alone = replace(job, methods=(method,), search=search.resolved(method), out=None)
        inputs = {**checkpoint_inputs(opened, path, weights), **folders,
                  **({"commands": records.stamp(job.commands, path)} if job.commands and Path(job.commands).is_file() else {}),
                  **{model: records.stamp(search.files[model], path) for model in search.models_of(method)}}
        record = records.Record("hallucinate", records.as_json(alone), inputs, made, rows, path)
        record.write()
        written.append(Hallucinations(rows, record))
    return written


def hallucinate_again(path: str, *, device: str = "auto", out: str | None = None,
                      say: Say = silent) -> tuple[records.Record, Hallucinations, list[str]]:
    """Repeat one method from its record → the record, what came now, and what differs.

    Raises:
        ValueError: the record is none; an input is not there any more, or has changed.
    """
    known = records.read_record(path, "hallucinate", WHERE)
    folder = known.again_folder(out)
    job = records.from_json(HallucinateJob, known.job)
    found = tuple(known.located(f"recordings {i}", "recordings") for i in range(1, len(job.folders) + 1))
    pack = known.located("commands", "pack (--commands)") if "commands" in known.inputs else job.commands
    now = hallucinate(replace(job, commands=pack, checkpoint=checkpoint_of(known), search=located_models(known, job.search), folders=found,
                              out=str(folder), device=device), say)[0]
    return known, now, records.differences(known.result, now.rows)
