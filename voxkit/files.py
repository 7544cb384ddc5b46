"""Files as every room reads and writes them: text decoded or refused by line, writes that are whole or not there, content hashes.

A line ends at LF, CRLF or CR and nowhere else: U+2028, form feeds and the like stay inside it.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import hashlib
import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
         (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # UTF-32 first: its LE mark begins with UTF-16's
_LONGEST_NAME = 200  # bytes; file systems take 255, and suffixes come behind
_LINE_END = re.compile("\r\n|\r|\n")


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8, or in what its byte order mark says; `.gz` is unpacked.

    Raises:
        ValueError: it is in another encoding; the message names file and line. OSError: it cannot be read.
    """
    path = Path(path)
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file: {error}") from error
    return decode(raw, str(path))


def decode(raw: bytes, where: str) -> str:
    """Bytes of a text file as text, as `read_text`; `where` names them in the error."""
    encoding, start = "utf-8", 0
    for mark, name in _BOMS:
        if raw.startswith(mark):
            encoding, start = name, len(mark)
            break
    try:
        return raw[start:].decode(encoding)
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(raw[start:start + error.start].decode(encoding, errors="replace"))) + 1
        raise ValueError(f"{where}:{line}: not {encoding.upper()} text ({error.reason} at byte {start + error.start}); convert the file, "
                         f"e.g. `iconv -f WINDOWS-1252 -t UTF-8 {Path(where).name}`") from error


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines of `read_text`, without their ends; an end of line at the end of the file begins no further line."""
    return split_lines(read_text(path))


def split_lines(text: str) -> list[str]:
    """Text → lines, which end at LF, CRLF and CR alone."""
    lines = _LINE_END.split(text)
    return lines[:-1] if lines[-1] == "" else lines


@contextlib.contextmanager
def writing(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """A file under a temporary name beside its own, renamed at the end: a reader sees the old file or the new one, never half of it.

    Args:
        mode: "w", text in UTF-8 with its line ends as written, or "wb".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".", suffix=".part")
    try:
        with os.fdopen(fd, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, atomically."""
    with writing(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike, value: Any, indent: int | None = 1) -> None:
    """Write a value as JSON, atomically."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def append_csv(path: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Append a row to a CSV file with a header, atomically; a column that the file lacks is added to all of it."""
    path = Path(path)
    rows: list[dict[str, Any]] = []
    columns: list[str] = []
    if path.is_file():
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        rows, columns = list(reader), list(reader.fieldnames or ())
    columns += [name for name in row if name not in columns]
    with writing(path) as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])


def file_name(id: str) -> str:
    """An id as the name of a file: never a path, never hidden, different for different ids. Letters of any script, digits and `-_.+=@,~`
    stay as they are, all else is percent-encoded; a long name is cut and ends in a hash of the id."""
    name = "".join(c if c.isalnum() or c in "-_.+=@,~" else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass")) for c in id)
    if not name or name.startswith("."):
        name = "%2E" + name[1:] if name else "%"
    if len(name.encode("utf-8")) > _LONGEST_NAME:
        kept = name.encode("utf-8")[:_LONGEST_NAME - 33].decode("utf-8", "ignore")
        name = f"{kept}-{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
    return name


def sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file's content, or of all files of a folder in the order of their names."""
    path, digest = Path(path), hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
