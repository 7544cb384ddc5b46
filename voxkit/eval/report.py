"""One self-contained HTML page of a test result: first the picture (error rate by duration, calibration) and the worst utterances with
their audio and aligned errors, then comparison, curves, conditions, speakers and confusions."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Mapping, Sequence

from voxkit.eval.calibration import Calibration
from voxkit.eval.charts import bars, rate_bars, reliability
from voxkit.eval.table import DURATIONS, classes, per_duration, per_group
from voxkit.eval.texts import without_half_pairs
from voxkit.eval.wer import AlignedUtterance, WerResult
from voxkit.files import write_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums } h2 { margin-top: 2em } details { margin: .6em 0 }
.a { font-family: ui-monospace, monospace; line-height: 1.2 } .a span { display: inline-block; margin: .2em .25em; vertical-align: top }
.a i { display: block; font-style: normal; min-height: 1.2em }
.sub { background: #ffe9a8 } .del { background: #ffc9c9 } .ins { background: #c9dcff }
audio { height: 2em; vertical-align: middle } .m { color: #777 } svg text { font-size: 11px; fill: #555 }
.picture { display: flex; flex-wrap: wrap; gap: 2em; align-items: end }
"""


def write_report(path: str | Path, result: WerResult, *, title: str = "result", summary: Sequence[Mapping[str, object]] = (),
                 speakers: Mapping[str, str] | None = None, durations: Mapping[str, float] | None = None,
                 conditions: Mapping[str, str] | None = None, comparison: Sequence[Mapping[str, object]] = (),
                 audio: Mapping[str, tuple[str, float, float]] | None = None, calibrated: Mapping[str, Calibration] | None = None,
                 curves: Sequence[str | Path] = (), worst: int = 20, confusions: int = 40) -> None:
    """Write the page.

    Args:
        summary: what the first lines say; by default the result's own row.
        speakers, durations, conditions: id → speaker, id → seconds, id → condition: further tables.
        comparison: rows about another run.
        audio: id → (file, start, seconds): the worst utterances can be played; files that cannot be read are named in the page.
        calibrated: name → Calibration: reliability diagrams in the picture.
        curves: PNG files to show.
        worst, confusions: how many.
    """
    parts = [f"<h1>{_e(title)}</h1>", *(f"<p>{_line(row)}</p>" for row in summary or [result.row()]),
             _picture(result, durations or {}, calibrated or {}), _worst(result, worst, audio or {}, speakers or {})]
    if comparison:
        parts.append("<h2>Against another run</h2>" + _table(comparison))
    if curves:
        parts.append("<h2>Curves</h2>" + "".join(_image(Path(p)) for p in curves))
    if conditions:
        parts.append("<h2>By condition</h2>" + _table(per_group(result, conditions, "condition")))
    if durations:
        parts.append("<h2>By duration</h2>" + _table(per_duration(result, durations)))
    if speakers:
        rows = sorted(per_group(result, speakers, "speaker"), key=lambda r: -float(str(r.get("WER", r.get("CER")))))
        parts.append(f"<h2>By speaker</h2><details><summary>{len(rows)} speakers</summary>{_table(rows)}</details>")
    parts.append("<h2>Confusions</h2>" + _table([{"times": n, "reference": r or "(nothing)", "hypothesis": h or "(nothing)"}
                                                 for (r, h), n in result.confusions().most_common(confusions)]))
    write_text(path, without_half_pairs(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_e(title)}</title><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>"))


def _line(row: Mapping[str, object]) -> str:
    return " · ".join(f"{_e(name)} <b>{_e(value)}</b>" for name, value in row.items())


def _picture(result: WerResult, durations: Mapping[str, float], calibrated: Mapping[str, Calibration]) -> str:
    """Error rates by duration, by length in units where no duration is known; and how far confidences can be trusted."""
    if durations:
        by, (labels, keys) = "duration", classes(durations, DURATIONS, "s")
    else:
        by, (labels, keys) = "length", classes({u.id: u.words for u in result.utterances}, (5, 10, 20, 40), f"{result.unit}s")
    name = "WER" if result.unit == "word" else "CER"
    drawn = [bars(rate_bars(result, labels, keys), f"{name} by {by}, %, with 95 % interval")]
    drawn += [f"<figure>{reliability(c)}<figcaption>Calibration: {_e(name)}. Expected calibration error {100 * c.error:.2f} %, normalized "
              f"cross-entropy {c.nce:.3f}, {100 * c.accuracy:.1f} % of words right</figcaption></figure>" for name, c in calibrated.items()]
    return f'<div class="picture">{"".join(drawn)}</div>'


def _worst(result: WerResult, count: int, audio: Mapping[str, tuple[str, float, float]], speakers: Mapping[str, str]) -> str:
    ranked = sorted((u for u in result.utterances if u.errors), key=lambda u: (-u.errors, -u.errors / max(u.words, 1), u.id))[:count]
    return (f'<h2>The {len(ranked)} worst utterances</h2><p><span class="sub">substituted</span> <span class="del">deleted</span> '
            '<span class="ins">inserted</span>; the reference is above</p>'
            + "".join(_utterance(u, audio.get(u.id), speakers.get(u.id)) for u in ranked))


def _e(value: object) -> str:
    return html.escape(str(value))


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return "<p>none</p>"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{_e(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(_cell(row.get(c, "")) for c in columns) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    number = isinstance(value, (int, float)) or (isinstance(value, str) and value.replace(".", "", 1).isdigit())
    return f"<td{' class=n' if number else ''}>{_e(value)}</td>"


def _utterance(u: AlignedUtterance, source: tuple[str, float, float] | None, speaker: str | None) -> str:
    cells = []
    for reference, hypothesis in u.pairs():
        kind = "" if reference == hypothesis else "ins" if reference is None else "del" if hypothesis is None else "sub"
        cells.append(f'<span class="{kind}"><i>{_e(reference or "")}</i><i>{_e(hypothesis or "") if kind else ""}</i></span>')
    where = f" · {_e(speaker)}" if speaker else ""
    return (f'<h3>{_e(u.id)}</h3><p class="m">{u.errors} errors in {u.words}{where} {_player(source)}</p>'
            f'<div class="a">{"".join(cells)}</div>')


def _player(source: tuple[str, float, float] | None) -> str:
    if source is None:
        return ""
    import soundfile

    path, start, seconds = source
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(round(start * file.samplerate))
            samples, rate = file.read(round(seconds * file.samplerate)), file.samplerate
        packed = io.BytesIO()
        soundfile.write(packed, samples, rate, format="FLAC", subtype="PCM_16")
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        return f"(audio of {_e(path)} cannot be read: {_e(error)})"
    return f'<audio controls preload="none" src="data:audio/flac;base64,{base64.b64encode(packed.getvalue()).decode()}"></audio>'


def _image(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such picture; `voxkit plot` makes the curves of a run")
    return f'<p><img alt="{_e(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></p>'
