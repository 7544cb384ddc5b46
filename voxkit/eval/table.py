"""Tables as text, as Markdown (for RESULTS.md) and as rows appended to results.csv."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Mapping, Sequence

from voxkit.eval.wer import WerResult


def format_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None, *, style: str = "text",
                 title: str = "") -> str:
    """Rows of named cells as one aligned table; numbers to the right.

    Args:
        rows: cells by column name; a row may lack some.
        columns: which, in which order; by default all, in the order they turn up.
        style: "text" or "markdown".
    """
    if style not in ("text", "markdown"):
        raise ValueError(f"table style {style!r} is none of text, markdown")
    columns = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    numeric = [bool(cells) and all(_is_number(row[i]) or not row[i] for row in cells) for i in range(len(columns))]
    widths = [max(3, len(name), *(len(row[i]) for row in cells)) if cells else max(3, len(name)) for i, name in enumerate(columns)]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric)]
        return f"| {' | '.join(padded)} |" if style == "markdown" else "  ".join(padded).rstrip()

    if style == "markdown":
        rule = "|" + "|".join("-" * (w + 1) + (":" if right else "-") for w, right in zip(widths, numeric)) + "|"
    else:
        rule = "  ".join("-" * w for w in widths)
    head = [f"**{title}**\n" if style == "markdown" else title] if title else []
    return "\n".join([*head, line(columns), rule, *map(line, cells)])


def per_group(result: WerResult, keys: Mapping[str, str], name: str) -> list[dict[str, object]]:
    """One row per speaker, condition ... : `keys` id → group."""
    return [part.row(**{name: key}) for key, part in result.split(keys).items()]


def per_duration(result: WerResult, durations: Mapping[str, float],
                 bounds: Sequence[float] = (2, 5, 10, 15, 20)) -> list[dict[str, object]]:
    """One row per class of duration; `durations` id → seconds, `bounds` the borders in seconds."""
    labels = [f"{low:g}-{high:g} s" for low, high in zip([0, *bounds[:-1]], bounds)] + [f"over {bounds[-1]:g} s"]
    keys = {id: labels[sum(seconds > b for b in bounds)] for id, seconds in durations.items()}
    parts = result.split(keys)
    return [parts[label].row(duration=label) for label in [*labels, "unknown"] if label in parts]


def append_csv(path: str | Path, row: Mapping[str, object]) -> None:
    """Append a row to a CSV with a header; columns it did not have yet are added (older rows stay empty there)."""
    path = Path(path)
    rows: list[dict[str, object]] = []
    columns: list[str] = []
    if path.exists() and path.stat().st_size:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            new = [name for name in row if name not in columns]
            rows = list(reader) if new else []
        if not new:
            with path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, columns).writerow(dict(row))
            return
        columns += new
    else:
        columns = list(row)
    _write_csv(path, columns, [*rows, dict(row)])


def rename_csv(path: str | Path, column: str, before: str, after: str) -> None:
    """Put `after` where a column of a CSV says `before`; nothing where there is no such file or column."""
    path = Path(path)
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows: list[dict[str, object]] = list(reader)
        columns = list(reader.fieldnames or [])
    if column in columns and any(row[column] == before for row in rows):
        _write_csv(path, columns, [{**row, column: after if row[column] == before else row[column]} for row in rows])


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, object]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(path.suffix + ".tmp")
    scratch.write_text(text.getvalue(), encoding="utf-8", newline="")
    scratch.replace(path)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True
