"""A manifest in pieces that can be read alone and in any order: what lets a set of millions be shuffled without being read first.

`voxkit prepare` writes cuts in blocks: `cuts_<split>.jsonl.gz` is a series of gzip members, which every gzip reader takes for one file,
and the header of each says how long it is, how many cuts it holds and how many seconds they last (an "extra field", RFC 1952, 2.3.1.1).
A plain .jsonl can be entered at any line. Someone else's .jsonl.gz is one piece.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = 256  # cuts in a gzip member
_SPAN = 1 << 18  # bytes of a piece of plain lines
_EXTRA = struct.Struct("<2sHIId")  # subfield id, its length, then bytes and lines of the member, and seconds of audio
_HEADER = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", _EXTRA.size)  # deflate, with an extra field, no time, no name
_HEAD = len(_HEADER) + _EXTRA.size


@dataclass(frozen=True)
class Piece:
    """Some lines of a manifest.

    Attributes:
        path: of the file; start, end: bytes of it, None = to the end.
        kind: `block` (a gzip member), `span` (lines that begin in these bytes), `whole` (a file).
        lines: how many, None = unknown; seconds: of their audio, None = unknown.
    """

    path: Path
    kind: str
    start: int = 0
    end: int | None = None
    lines: int | None = None
    seconds: float | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return (os.path.getsize(self.path) if self.end is None else self.end) - self.start

    @property
    def stamp(self) -> str:
        """What tells it from another version of the manifest."""
        return f"{self.size} {self.lines} {self.seconds}"

    def count(self) -> int:
        """How many lines it holds; reads them where the header does not tell."""
        return sum(1 for line in self._lines() if not line.isspace()) if self.lines is None else self.lines

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(place, decoded line) one after another; errors name file and line as far as it is known.

        Raises:
            ValueError: the file is cut short or damaged, or a line is no JSON object.
        """
        number, first = 0, f"byte {self.start}, " if self.start else ""
        try:
            for number, line in enumerate(self._lines(), 1):
                if line.isspace():
                    continue
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise ValueError(f"an object was expected, not {type(value).__name__}")
                yield f"{self.path}:{first}{number}", value
        except (ValueError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{self.path}:{first}{number}: damaged manifest ({error}); make it anew with `voxkit prepare`") from error

    def _lines(self) -> Iterator[bytes]:
        if self.kind == "whole":
            with (gzip.open if self.path.suffix == ".gz" else open)(self.path, "rb") as file:
                yield from file
        elif self.kind == "block":
            with open(self.path, "rb") as file:
                file.seek(self.start)
                yield from gzip.decompress(file.read(self.size)).splitlines(keepends=True)  # bytes: at line feeds and returns alone
        else:
            assert self.end is not None  # of a span it is always known
            with open(self.path, "rb") as file:
                if self.start:  # the line that begins before belongs to the piece before
                    file.seek(self.start - 1)
                    file.readline()
                while file.tell() < self.end and (line := file.readline()):
                    yield line


def split_manifest(path: Path) -> list[Piece]:
    """The pieces of a .jsonl or .jsonl.gz, in the order of its lines."""
    if path.suffix != ".gz":
        size = path.stat().st_size
        return [Piece(path, "span", start, min(start + _SPAN, size)) for start in range(0, size, _SPAN)]
    pieces, size = [], path.stat().st_size
    with open(path, "rb") as file:
        offset = 0
        while offset < size:
            file.seek(offset)
            head = file.read(_HEAD)
            if len(head) < _HEAD or not head.startswith(_HEADER):
                return [Piece(path, "whole")]
            _, _, length, lines, seconds = _EXTRA.unpack(head[len(_HEADER):])
            if length < _HEAD or offset + length > size:
                raise ValueError(f"{path}: cut short; make it anew with `voxkit prepare`")
            pieces.append(Piece(path, "block", offset, offset + length, lines, seconds))
            offset += length
    return pieces


def write_blocks(file: Any, cuts: Iterable[dict[str, Any]]) -> None:
    """Write cuts, as dicts, to a binary file as JSON lines in gzip members of `BLOCK` lines."""
    block: list[bytes] = []
    seconds = 0.0
    wrote = False
    for cut in cuts:
        block.append(json.dumps(cut, ensure_ascii=False).encode() + b"\n")
        seconds += seconds_of(cut)
        if len(block) == BLOCK:
            file.write(_member(block, seconds))
            block, seconds, wrote = [], 0.0, True
    if block or not wrote:
        file.write(_member(block, seconds))


def seconds_of(cut: dict[str, Any]) -> float:
    """Duration of a cut as a dict: a mixed one lasts as long as its longest track."""
    if "tracks" in cut:
        return max(track.get("offset", 0.0) + seconds_of(track["cut"]) for track in cut["tracks"])
    return float(cut["duration"])


def _member(lines: list[bytes], seconds: float) -> bytes:
    raw = b"".join(lines)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(raw) + deflate.flush() + struct.pack("<II", zlib.crc32(raw), len(raw) & 0xFFFFFFFF)
    return _HEADER + _EXTRA.pack(b"VX", _EXTRA.size - 4, _HEAD + len(body), len(lines), seconds) + body
