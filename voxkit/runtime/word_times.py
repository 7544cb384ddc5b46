"""When words were really said, for measuring delays: from a CTM, or from a manifest of cuts whose supervisions have word alignments."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

from voxkit.files import read_lines

WordTimes = dict[str, list[tuple[float, float]]]  # recording → start and end of its words, seconds, in order


def read_word_times(path: str | Path) -> WordTimes:
    """Word times by recording: by the names in a .ctm (`voxkit align` and `voxkit decode --formats ctm` write one), by the ids of cuts in a
    .jsonl or .jsonl.gz.

    Raises:
        ValueError: another kind of file, lines that are none, or no word times at all.
    """
    path = Path(path)
    name = path.name.removesuffix(".gz")
    if name.endswith(".ctm"):
        found = _from_ctm(path)
    elif name.endswith(".jsonl"):
        found = _from_cuts(path)
    else:
        raise ValueError(f"{path}: word times come from a .ctm, or from cuts in a .jsonl or .jsonl.gz")
    if not found:
        raise ValueError(f"{path}: holds no word times; `voxkit align CHECKPOINT AUDIO --format ctm` makes a CTM")
    return {name: sorted(words) for name, words in found.items()}


def _from_ctm(path: Path) -> WordTimes:
    """`recording channel start duration word [confidence]`."""
    out: WordTimes = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        parts = line.split()
        try:
            start, duration = float(parts[2]), float(parts[3])
            if len(parts) < 5 or not (0 <= start < math.inf and 0 <= duration < math.inf):
                raise ValueError
        except (ValueError, IndexError):
            raise ValueError(f"{path}:{number}: a line of a CTM is `recording channel start duration word`, not {line!r}") from None
        out.setdefault(parts[0], []).append((start, start + duration))
    return out


def _from_cuts(path: Path) -> WordTimes:
    out: WordTimes = {}
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                cut: dict[str, Any] = json.loads(line)
                words = [(float(item[1]), float(item[1]) + float(item[2])) for spoken in cut.get("supervisions", [])
                         for item in (spoken.get("alignment") or {}).get("word", [])]
                if words:
                    out[cut["id"]] = words
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise ValueError(f"{path}:{number}: no cut: {type(error).__name__}: {error}") from error
    return out
