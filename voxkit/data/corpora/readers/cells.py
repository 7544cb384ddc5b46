"""Lines of a table cut into cells: CSV with quotes, or text between tabs, bars or blanks. A row that cannot be told is named, never guessed
at, and never takes the rows after it along.

A quoted cell may hold the delimiter, doubled quotes and line breaks (RFC 4180). A quote that is never closed, or that closes in the middle
of a cell, spoils its own row only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

_LONGEST = 100  # lines that a quoted cell may go on for


@dataclass
class Row:
    """A row: number of its first line, its cells, and what is wrong with it ("" = nothing)."""

    line: int
    cells: list[str]
    problem: str = ""


def split_rows(lines: list[str], delimiter: str, quoted: bool, is_row: Callable[[list[str]], bool]) -> Iterator[Row]:
    """The rows of a table.

    Args:
        lines: of the file, without their ends.
        delimiter: one character, or "" for a name, blanks, and the rest of the line.
        quoted: cells may be quoted over line breaks (CSV); else a quoted cell ends on its line (TSV).
        is_row: whether cells look like a row of this table: inside a quoted cell such a line says that a quote is missing.
    """
    i = 0
    while i < len(lines):
        line, following = lines[i], lines[i + 1] if i + 1 < len(lines) else ""
        if not delimiter:
            yield Row(i + 1, (line.split(maxsplit=1) + [""])[:2])
        elif '"' not in line:
            yield Row(i + 1, line.split(delimiter))
        elif not quoted:
            cells = line.split(delimiter)
            opened = any(cell.startswith('"') and cell.count('"') % 2 for cell in cells)
            broken = opened and following.strip() and not is_row(following.split(delimiter))
            yield Row(i + 1, [_unquoted(cell) for cell in cells], "a quoted cell goes on in the next line" if broken else "")
        else:
            end, record = _record(lines, i, delimiter, is_row)
            if record is not None:
                yield Row(i + 1, record)
                i = end
                continue
            yield Row(i + 1, line.split(delimiter), "a quote without its other half")
        i += 1


def _unquoted(cell: str) -> str:
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and not cell[1:-1].replace('""', "").count('"')
    return cell[1:-1].replace('""', '"') if whole else cell


def _record(lines: list[str], first: int, delimiter: str, is_row: Callable[[list[str]], bool]) -> tuple[int, list[str] | None]:
    """(line after the record, cells), cells None where its quotes make no sense."""
    text = lines[first]
    for end in range(first + 1, min(first + _LONGEST, len(lines)) + 1):
        cells = _cells(text, delimiter)
        if cells is not None:
            return end, cells
        if end == len(lines) or is_row(lines[end].split(delimiter)):
            break
        text += "\n" + lines[end]
    return first + 1, None


def _cells(text: str, delimiter: str) -> list[str] | None:
    """Cells of one record; None where a quoted cell does not end, or a cell holds half a pair of quotes."""
    cells, place = [], 0
    while True:
        start = place
        while text[start:start + 1] == " ":
            start += 1
        if text[start:start + 1] == '"':
            cell, place = "", start + 1
            while True:
                end = text.find('"', place)
                if end < 0:
                    return None
                cell += text[place:end]
                if text[end + 1:end + 2] != '"':
                    break
                cell, place = cell + '"', end + 2
            rest = text[end + 1:]
            after = rest.lstrip(" ")
            if after and after[0] != delimiter:  # "so" she said: quotes inside a cell that is not quoted
                return _plain(text, delimiter)
            cells.append(cell)
            if not after:
                return cells
            place = len(text) - len(after) + 1
        else:
            end = text.find(delimiter, place)
            cell = text[place:] if end < 0 else text[place:end]
            if cell.count('"') % 2:
                return None
            cells.append(cell)
            if end < 0:
                return cells
            place = end + 1


def _plain(text: str, delimiter: str) -> list[str] | None:
    cells = text.split(delimiter)
    return cells if "\n" not in text and all(cell.count('"') % 2 == 0 for cell in cells) else None
