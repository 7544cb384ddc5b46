"""Words with times as files: JSON, CTM, SRT, WebVTT, TextGrid.

    write("captions.srt", {"utt1": hypothesis})        the suffix names the format
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Callable, Mapping, Sequence

from voxkit.files import file_name, write_text
from voxkit.hypothesis import Hypothesis, Word
from voxkit.text.words import join


def to_json(hypotheses: Mapping[str, Hypothesis]) -> str:
    """A JSON object per line: `{"id", "text", "words": [...], "audio_duration"}`."""
    return "".join(json.dumps({"id": id, **h.to_json()}, ensure_ascii=False) + "\n" for id, h in hypotheses.items())


def to_ctm(hypotheses: Mapping[str, Hypothesis]) -> str:
    """NIST CTM: `id channel start duration word confidence`, in the order of ids that sclite wants. Fields are parted by blanks: one inside
    an id or a word becomes an underscore."""
    return "".join(f"{_field(id)} 1 {w.start:.3f} {w.end - w.start:.3f} {_field(w.word)} {w.confidence:.4f}\n"
                   for id in sorted(hypotheses) for w in hypotheses[id].words)


def to_srt(hypotheses: Mapping[str, Hypothesis]) -> str:
    """SubRip captions of one recording. It has no escapes: an arrow in the text, which would be read as one of times, becomes a sign."""
    out = []
    for number, (start, end, lines) in enumerate(_captions(_single(hypotheses, "SRT").words), 1):
        shown = lines.replace("-->", "\u2192")
        out.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{shown}\n")
    return "\n".join(out)


def to_vtt(hypotheses: Mapping[str, Hypothesis]) -> str:
    """WebVTT captions of one recording."""
    cues = [f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escape(lines)}\n"
            for start, end, lines in _captions(_single(hypotheses, "WebVTT").words)]
    return "WEBVTT\n\n" + "\n".join(cues)


def to_textgrid(hypotheses: Mapping[str, Hypothesis]) -> str:
    """Praat TextGrid of one recording, a tier of words; what lies between them is empty intervals."""
    h = _single(hypotheses, "TextGrid")
    end = round(max([h.audio_duration, *(w.end for w in h.words)]), 6)
    intervals, at = [], 0.0
    for w in h.words:
        start, stop = round(max(w.start, at), 6), round(w.end, 6)
        if stop <= start:  # Praat has no empty intervals
            continue
        if start > at:
            intervals.append((at, start, ""))
        intervals.append((start, stop, w.word))
        at = stop
    if end > at:
        intervals.append((at, end, ""))
    pad = " " * 12
    body = "".join(f'        intervals [{n}]:\n{pad}xmin = {a:.6f}\n{pad}xmax = {b:.6f}\n{pad}text = "{_quote(text)}"\n'
                   for n, (a, b, text) in enumerate(intervals, 1))
    return (f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {end:.6f}\ntiers? <exists>\nsize = 1\nitem []:\n'
            f'    item [1]:\n        class = "IntervalTier"\n        name = "words"\n        xmin = 0\n        xmax = {end:.6f}\n'
            f"        intervals: size = {len(intervals)}\n{body}")


FORMATS: dict[str, Callable[[Mapping[str, Hypothesis]], str]] = {
    "json": to_json, "ctm": to_ctm, "srt": to_srt, "vtt": to_vtt, "textgrid": to_textgrid}
ONE_RECORDING = ("srt", "vtt", "textgrid")


def suffix(name: str) -> str:
    """Of files in a format, as other programs expect it."""
    return "TextGrid" if name == "textgrid" else name


def render(name: str, hypotheses: Mapping[str, Hypothesis]) -> str:
    """The text of a format.

    Raises:
        ValueError: no such format; the message lists those there are.
    """
    if name not in FORMATS:
        raise ValueError(f"format {name!r} is none of {', '.join(FORMATS)}")
    return FORMATS[name](hypotheses)


def write(path: str | Path, hypotheses: Mapping[str, Hypothesis], name: str | None = None) -> list[Path]:
    """Write a file in the format its suffix names (or `name`); formats for one recording with several make a folder of files."""
    path = Path(path)
    name = name or path.suffix.lstrip(".").lower().replace("jsonl", "json")
    files: list[tuple[Path, Mapping[str, Hypothesis]]]
    if name in ONE_RECORDING and len(hypotheses) > 1:
        files = [(path.with_suffix("") / f"{file_name(id)}.{suffix(name)}", {id: h}) for id, h in hypotheses.items()]
    else:
        files = [(path, hypotheses)]
    for file, content in files:
        text = render(name, content)
        write_text(file, text)
    return [file for file, _ in files]


def _single(hypotheses: Mapping[str, Hypothesis], what: str) -> Hypothesis:
    if len(hypotheses) != 1:
        raise ValueError(f"{what} describes one recording, {len(hypotheses)} were given: write one file for each")
    return next(iter(hypotheses.values()))


def _captions(words: Sequence[Word], width: int = 42, lines: int = 2, seconds: float = 6.0,
              pause: float = 0.8) -> list[tuple[float, float, str]]:
    """Words in captions of at most two lines of 42 characters and six seconds; a pause ends one. Each lasts a millisecond or more, as
    WebVTT wants. A word of more than a line is broken, and its time with it."""
    groups: list[list[Word]] = []
    for w in (part for word in words for part in _broken(word, width)):
        current = groups[-1] if groups else []
        full = len(_wrap([*current, w], width)) > lines
        if not current or full or w.end - current[0].start > seconds or w.start - current[-1].end > pause:
            groups.append([])
        groups[-1].append(w)
    return [(g[0].start, max(g[-1].end, g[0].start + 0.001), "\n".join(_wrap(g, width))) for g in groups]


def _broken(word: Word, width: int) -> list[Word]:
    """A word in pieces of at most `width` characters, each with its share of the time."""
    text = " ".join(word.word.split())
    if len(text) <= width:
        return [replace(word, word=text)] if text else []
    share = (word.end - word.start) / len(text)
    cuts = range(0, len(text), width)
    return [replace(word, word=text[at:at + width], start=word.start + at * share,
                    end=word.start + min(at + width, len(text)) * share) for at in cuts]


def _wrap(words: Sequence[Word], width: int) -> list[str]:
    """Lines of at most `width` characters, where no word has more."""
    out = [""]
    for w in words:
        longer = join([out[-1], w.word]) if out[-1] else w.word
        if len(longer) > width and out[-1]:
            out.append(w.word)
        else:
            out[-1] = longer
    return out


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"


def _field(text: str) -> str:
    return "_".join(text.split())


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quote(text: str) -> str:
    return text.replace('"', '""')
