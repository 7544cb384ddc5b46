"""What a file or folder is, not only where: path and SHA-256, for records of what was decoded, tuned or fitted with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def stamp(path: str | Path) -> dict[str, str]:
    """`{"path", "sha256"}` of a file, or of all files of a folder."""
    return {"path": str(Path(path).resolve()), "sha256": sha256(Path(path))}


def sha256(path: Path) -> str:
    """Of a file, or of the files of a folder one after the other."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sha256_of_texts(texts: Mapping[str, str]) -> str:
    """Of texts by id, in whatever order."""
    return hashlib.sha256("".join(f"{id}\t{text}\n" for id, text in sorted(texts.items())).encode()).hexdigest()
