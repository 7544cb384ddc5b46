"""Tables as text and as Markdown (for RESULTS.md), and the names of records in results.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Mapping, Sequence

from voxkit.eval.wer import WerResult
from voxkit.files import writing

DURATIONS = (2, 5, 10, 15, 20)  # seconds: borders of the classes of duration


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


def interval_cell(interval: tuple[float, float] | None) -> str:
    """An interval of fractions in percent, "1.23-4.56"; "–" where there is none."""
    return f"{100 * interval[0]:.2f}-{100 * interval[1]:.2f}" if interval else "–"


def per_group(result: WerResult, keys: Mapping[str, str], name: str) -> list[dict[str, object]]:
    """One row per speaker, condition ... : `keys` id → group."""
    return [part.row(**{name: key}) for key, part in result.split(keys).items()]


def classes(values: Mapping[str, float], bounds: Sequence[float], unit: str) -> tuple[list[str], dict[str, str]]:
    """The labels of classes of a quantity, in order, and id → label; `values` id → quantity, `bounds` the borders."""
    labels = [f"{low:g}-{high:g} {unit}" for low, high in zip([0, *bounds[:-1]], bounds)] + [f"over {bounds[-1]:g} {unit}"]
    return labels, {id: labels[sum(value > b for b in bounds)] for id, value in values.items()}


def per_duration(result: WerResult, durations: Mapping[str, float], bounds: Sequence[float] = DURATIONS) -> list[dict[str, object]]:
    """One row per class of duration; `durations` id → seconds, `bounds` the borders in seconds."""
    labels, keys = classes(durations, bounds, "s")
    parts = result.split(keys)
    return [parts[label].row(duration=label) for label in [*labels, "unknown"] if label in parts]


def rename_csv(path: str | Path, column: str, before: str, after: str) -> None:
    """Put `after` where a column of a CSV says `before`; nothing where there is no such file or column."""
    path = Path(path)
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows, columns = list(reader), list(reader.fieldnames or [])
    if column in columns and any(row[column] == before for row in rows):
        with writing(path) as out:
            writer = csv.DictWriter(out, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, column: after if row[column] == before else row[column]} for row in rows)


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
