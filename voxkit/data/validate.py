"""No bad utterance gets into training unseen: each is named, counted and left out, and the report says so at the end.

Every corpus passes its cuts through a `Preparation`: transcripts normalized, everything checked, audio decoded
once from end to end, the rest written as `cuts_<split>.jsonl.gz` beside `validation.json` and `prepare.json`.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.audio.decode import AudioError
from voxkit.data.manifests import cuts_path, fingerprint, read_json, save_cuts
from voxkit.data.reader import load_features, load_recording
from voxkit.files import write_json
from voxkit.rate import RATE
from voxkit.text.normalize import NORMALIZATIONS, normalization

if TYPE_CHECKING:
    from lhotse import Recording, SupervisionSegment
    from lhotse.cut import Cut

LOWEST_RATE = 4000  # Hz; nobody records speech below it, a header that says so is wrong
SILENT = 1e-4  # a peak below -80 dB holds no speech
TOLERANCE = 0.025  # seconds by which a header may promise more than decoding gives (lhotse's own tolerance)
# What tokenizers and corpora put where no word was said, or none that anybody understood.
_SPECIAL = re.compile(r"</?s>|<(?:unk|pad|blank|blk|eps|sos|eos|sos/eos|bos)>|<\|\w+\|>", re.I)


@dataclass
class Checks:
    """What an utterance must be like.

    Attributes:
        text: normalization of the transcripts: none, librispeech, lower.
        min_duration: seconds; shorter ones are left out.
        max_duration: seconds; longer ones are left out.
        max_characters_per_second: a transcript that is denser cannot belong to its audio.
        decode: decode all audio from end to end, which finds corrupt and silent files.
    """

    text: str = "none"
    min_duration: float = 0.1
    max_duration: float = 40.0
    max_characters_per_second: float = 40.0
    decode: bool = True

    def problems(self) -> list[str]:
        found = []
        if self.text not in NORMALIZATIONS:
            found.append(f"text: {self.text!r} is not known; there are: {', '.join(NORMALIZATIONS)}")
        if not 0 <= self.min_duration < self.max_duration:
            found.append(f"min_duration {self.min_duration} and max_duration {self.max_duration}: the first must be the smaller")
        if self.max_characters_per_second <= 0:
            found.append("max_characters_per_second: must be above 0")
        return found


@dataclass
class Report:
    """What one split kept, what was left out and why, and what is worth knowing of the rest."""

    kept: int = 0
    seconds: float = 0.0
    left_out: list[dict[str, str]] = field(default_factory=list)  # {"id", "reason", "detail"}
    notes: dict[str, int] = field(default_factory=dict)  # remark → how many utterances

    def reject(self, id: str, reason: str, detail: str = "") -> None:
        """Leave an utterance out."""
        self.left_out.append({"id": id, "reason": reason, "detail": detail})

    def note(self, remark: str, count: int = 1) -> None:
        """Remark on utterances that are kept."""
        self.notes[remark] = self.notes.get(remark, 0) + count

    def reasons(self) -> dict[str, int]:
        """Reason → how many were left out for it, the most frequent first."""
        return dict(Counter(entry["reason"] for entry in self.left_out).most_common())


class Preparation:
    """One run of a corpus: which splits are there already, and the way for new ones through the checks to disk.

    Args:
        out: data directory.
        corpus: name of the corpus.
        checks: what utterances must be like.
        options: everything else that decides the result.
        sources: for each split what its source looks like, as JSON (stamps of files); a split made with the same checks and
            options from the same source is not made again.
        executor: decodes audio; None decodes in this thread.

    Raises:
        ValueError: checks that contradict themselves.
    """

    def __init__(self, out: str | os.PathLike, corpus: str, checks: Checks, options: dict[str, Any],
                 sources: dict[str, Any] | None = None, executor: Executor | None = None):
        if problems := checks.problems():
            raise ValueError("; ".join(problems))
        self.out = Path(out)
        self.corpus, self.checks, self.executor = corpus, checks, executor
        self.options, self.sources = options, sources or {}
        self.reports: dict[str, Report] = {}
        self._pending: dict[str, Report] = defaultdict(Report)

    def done(self, split: str) -> bool:
        """Whether the split was made already, with these very options."""
        made = read_json(self.out / "prepare.json").get("splits", {}).get(split, {})
        if made.get("fingerprint") != self._fingerprint(split) or not cuts_path(self.out, split).is_file():
            return False
        found = read_json(self.out / "validation.json").get(split)
        if found is None:
            return False
        self.reports[split] = Report(**{k: found[k] for k in ("kept", "seconds", "left_out", "notes")})
        return True

    def check_own(self, split: str) -> None:
        """For corpora that add a split of their own beside others.

        Raises:
            ValueError: another corpus made a split of this name.
        """
        other = read_json(self.out / "prepare.json").get("splits", {}).get(split, {}).get("corpus", self.corpus)
        if other != self.corpus:
            raise ValueError(f"split: {split!r} is in {self.out} already, made by `voxkit prepare {other}`; give this one another name "
                             "(--split)")

    def begin(self, split: str) -> Report:
        """Forget an earlier version of the split; the report is for what cannot even become a cut."""
        cuts_path(self.out, split).unlink(missing_ok=True)
        self._pending[split] = Report()
        return self._pending[split]

    def finish(self, split: str, cuts: Iterable[Cut]) -> Report:
        """Check cuts, write those that pass, and note both in validation.json and prepare.json.

        Args:
            cuts: MonoCuts with a recording and one supervision each; ids should be the utterances' own.

        Raises:
            ValueError: nothing is left; the message says why each went.
        """
        report = self._pending.pop(split, None) or Report()
        kept = validate(cuts, self.checks, report, self.executor)
        report.kept, report.seconds = len(kept), round(sum(cut.duration for cut in kept), 3)
        validation = read_json(self.out / "validation.json")
        validation[split] = {"kept": report.kept, "seconds": report.seconds, "reasons": report.reasons(),
                             "notes": report.notes, "left_out": report.left_out}
        write_json(self.out / "validation.json", validation)
        if not kept:
            raise ValueError(f"{self.corpus}: nothing is left of {split!r}" + "".join(
                f"\n  {line}" for line in _left_out(split, report)) + ("" if report.left_out else ": no utterances were found in it"))
        save_cuts(kept, cuts_path(self.out, split))
        prepared = read_json(self.out / "prepare.json")
        splits = prepared.get("splits", {})
        splits[split] = {"fingerprint": self._fingerprint(split), "corpus": self.corpus, "cuts": report.kept, "seconds": report.seconds,
                         "checks": asdict(self.checks), "options": self.options}
        write_json(self.out / "prepare.json", {"splits": splits})
        self.reports[split] = report
        return report

    def _fingerprint(self, split: str) -> str:
        return fingerprint(corpus=self.corpus, checks=asdict(self.checks), options=self.options, source=self.sources.get(split))

    def table(self) -> str:
        """The report for people: what was kept per split, what was left out and why, remarks."""
        lines = [f"{'split':<16}{'utterances':>11}{'hours':>9}{'left out':>10}"]
        for split, report in self.reports.items():
            lines.append(f"{split:<16}{report.kept:>11}{report.seconds / 3600:>9.2f}{len(report.left_out):>10}")
        for split, report in self.reports.items():
            lines += _left_out(split, report)
            lines += [f"{split}: {remark}: {count}" for remark, count in report.notes.items()]
        if any(report.left_out for report in self.reports.values()):
            lines.append(f"every one that was left out: {self.out / 'validation.json'}")
        return "\n".join(lines)


def validate(cuts: Iterable[Cut], checks: Checks, report: Report, executor: Executor | None = None) -> list[Cut]:
    """The cuts that are fit for training: normalized transcripts, mono, 16 kHz (resampled as they are read).

    Args:
        cuts: MonoCuts with one supervision each; a transcript may be None. Those without a recording come with features.
        report: gets everything that is left out, and remarks.
        executor: decodes audio; None decodes in this thread.
    """
    rule = normalization(checks.text)
    seen: set[str] = set()
    kept = []
    for cut in cuts:
        supervision = cut.supervisions[0]
        written = supervision.text
        text = rule(written or "")
        problem = _problem(cut, written, text, seen, checks)
        if problem:
            report.reject(cut.id, *problem)
            continue
        seen.add(cut.id)
        if checks.text == "none" and any(c in ".,?!" for c in text):
            report.note("transcripts with punctuation, kept as written; --text librispeech takes it away")
        supervision.text = text
        kept.append(cut)
    if checks.decode:
        heard = _decoded([cut for cut in kept if cut.has_recording], report, executor)
        kept = heard + _finite([cut for cut in kept if not cut.has_recording], report)
    return [_at_rate(cut, report) for cut in kept]


def split_problems(name: str) -> list[str]:
    """What is wrong with the name of a split, which is part of file names."""
    good = bool(name) and not name.startswith(".") and not set(name) & set("/\\*?")
    return [] if good else [f"split: {name!r} cannot be the name of a split"]


def file_cut(id: str, path: str, samples: int, text: str, *, speaker: str | None = None, language: str | None = None,
             words: Iterable[tuple[str, float, float]] = ()) -> Cut:
    """The cut of an utterance that is a file of its own, at 16 kHz.

    Args:
        samples: of the file.
        words: (word, start, duration) in seconds; none = no alignment.
    """
    from lhotse import Recording, SupervisionSegment
    from lhotse.audio import AudioSource
    from lhotse.supervision import AlignmentItem

    duration = samples / RATE
    recording = Recording(id=id, sources=[AudioSource(type="file", channels=[0], source=path)], sampling_rate=RATE, num_samples=samples,
                          duration=duration, channel_ids=[0])
    items = [AlignmentItem(symbol=word, start=start, duration=length) for word, start, length in words]
    return mono_cut(recording, SupervisionSegment(id=id, recording_id=id, start=0.0, duration=duration, channel=0, text=text,
                                                  speaker=speaker, language=language, alignment={"word": items} if items else None))


def mono_cut(recording: Recording, supervision: SupervisionSegment) -> Cut:
    """The cut of one utterance, with the supervision's id: its part of the recording, its channel (the first of several). Alignments stay
    in the recording's time, as lhotse has them."""
    from lhotse import MonoCut
    from lhotse.utils import fastcopy

    channel = supervision.channel if isinstance(supervision.channel, int) else min(supervision.channel)
    own = fastcopy(supervision, start=0.0, channel=channel, recording_id=recording.id)
    return MonoCut(id=supervision.id, start=supervision.start, duration=supervision.duration, channel=channel,
                   recording=recording, supervisions=[own])


def _problem(cut: Cut, written: str | None, text: str, seen: set[str], checks: Checks) -> tuple[str, str] | None:
    recording = cut.recording
    if not (math.isfinite(cut.start) and math.isfinite(cut.duration) and cut.duration > 0):
        return "unreadable times", f"from {cut.start} s, {cut.duration} s long"
    if cut.id in seen:
        return "duplicate id", "another utterance has it already" + (f"; this one is of recording {recording.id}" if recording else "")
    if written is None:
        return "missing transcript", ""
    if special := _SPECIAL.search(written):
        return "special tokens in the transcript", f"{special[0]!r}: is this the text that was said?"
    if any(_is_control(character) for character in written):
        return "control characters in the transcript", repr(written)[:80]
    if not text:
        return "empty transcript", f"{written!r} after normalization {checks.text!r}" if written.strip() else ""
    if recording and recording.sampling_rate < LOWEST_RATE:
        return "wrong rate", f"{recording.sampling_rate} Hz"
    if recording and (cut.start < 0 or cut.start + cut.duration > recording.duration + TOLERANCE):
        return "outside its recording", f"{cut.start:.2f}-{cut.start + cut.duration:.2f} s of {recording.duration:.2f} s"
    if cut.duration < checks.min_duration:
        return "too short", f"{cut.duration:.3f} s, the least is {checks.min_duration:g} s"
    if cut.duration > checks.max_duration:
        return "too long", f"{cut.duration:.1f} s, the most is {checks.max_duration:g} s"
    if len(text) / cut.duration > checks.max_characters_per_second:
        return "transcript too long for its audio", f"{len(text)} characters in {cut.duration:.2f} s"
    return None


def _is_control(character: str) -> bool:
    """NUL, escape, a surrogate alone, ... but no white space."""
    return unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()


def _decoded(cuts: Sequence[Cut], report: Report, executor: Executor | None) -> list[Cut]:
    """Those whose audio decodes, from end to end; each recording is read once."""
    from tqdm import tqdm

    groups: dict[str, list[Cut]] = defaultdict(list)
    for cut in cuts:
        groups[_source_key(cut)].append(cut)
    jobs = [(group[0].recording, [(c.start, c.duration, c.channel) for c in group]) for group in groups.values()]
    batches = [jobs[i:i + 32] for i in range(0, len(jobs), 32)]
    results = executor.map(_probe_all, batches) if executor else map(_probe_all, batches)
    found: Iterator[list[tuple[str, str] | None]] = (
        problems for batch in tqdm(results, total=len(batches), desc="decoding", disable=None, leave=False) for problems in batch)
    bad = {id(cut): problem for group, problems in zip(groups.values(), found) for cut, problem in zip(group, problems) if problem}
    for cut in cuts:
        if id(cut) in bad:
            report.reject(cut.id, *bad[id(cut)])
    return [cut for cut in cuts if id(cut) not in bad]


def _finite(cuts: Sequence[Cut], report: Report) -> list[Cut]:
    """Those whose features can be read and are numbers."""
    kept = []
    for cut in cuts:
        try:
            load_features(cut)
        except Exception as error:  # whatever a storage may throw
            reason = "corrupt features" if "NaN" in str(error) else "missing features"
            report.reject(cut.id, reason, (str(error).splitlines() or [type(error).__name__])[0][:200])
        else:
            kept.append(cut)
    return kept


def _source_key(cut: Cut) -> str:
    return "|".join(str(s.source) for s in cut.recording.sources) if cut.recording.sources[0].type == "file" else cut.recording.id


def _probe_all(jobs: list[tuple[Any, list[tuple[float, float, int]]]]) -> list[list[tuple[str, str] | None]]:
    return [_probe(recording, spans) for recording, spans in jobs]


def _probe(recording: Any, spans: list[tuple[float, float, int]]) -> list[tuple[str, str] | None]:
    """For each (start, duration, channel) of a recording, what is wrong with its audio, or None."""
    import numpy as np

    try:
        audio, rate = load_recording(recording), recording.sampling_rate
    except AudioError as error:
        return [(error.reason, str(error))] * len(spans)
    except Exception as error:  # whatever lhotse and its decoders may throw at a broken file: the file is what is broken
        return [("corrupt audio", (str(error).strip() or type(error).__name__).splitlines()[0][:200])] * len(spans)
    seconds = audio.shape[1] / rate
    if seconds > recording.duration + 10 * TOLERANCE:  # what lies behind would be heard by nobody
        return [("wrong length", f"the manifest says {recording.duration:.2f} s, the audio has {seconds:.2f} s")] * len(spans)
    problems: list[tuple[str, str] | None] = []
    channels = {c: i for i, c in enumerate(recording.channel_ids or [0])}
    for start, duration, channel in spans:
        piece = audio[channels.get(channel, 0)][int(start * rate):round((start + duration) * rate)]
        if piece.size < (duration - TOLERANCE) * rate:
            problems.append(("truncated audio" if piece.size else "empty audio",
                             f"{audio.shape[1] / rate:.2f} s can be decoded of {recording.duration:.2f} s"))
        elif not np.isfinite(piece).all():
            problems.append(("corrupt audio", "samples that are no numbers"))
        elif float(np.abs(piece).max(initial=0.0)) < SILENT:
            problems.append(("silent audio", "no sample above -80 dB"))
        else:
            problems.append(None)
    return problems


def _at_rate(cut: Cut, report: Report) -> Cut:
    if not cut.has_recording:
        return cut
    rate = cut.recording.sampling_rate
    if cut.recording.num_channels > 1:
        report.note(f"recordings of {cut.recording.num_channels} channels: channel {cut.channel} is taken")
    if rate == RATE:
        return cut
    report.note(f"resampled from {rate} to {RATE} Hz when read")
    return cut.resample(RATE)


def _left_out(split: str, report: Report, shown: int = 3) -> list[str]:
    lines = []
    for reason, count in report.reasons().items():
        entries = [e for e in report.left_out if e["reason"] == reason]
        names = "; ".join(e["id"] + (f" ({e['detail']})" if e["detail"] else "") for e in entries[:shown])
        lines.append(f"{split}: {reason}: {count}: {names}" + (f"; and {count - shown} more" if count > shown else ""))
    return lines
