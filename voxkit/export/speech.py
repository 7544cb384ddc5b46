"""Prepared sets as what an export is compared on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from voxkit.data.reader import load_samples
from voxkit.data.sets import read_sets
from voxkit.export.parity import CheckUtterance


def read_utterances(data_dir: str | os.PathLike, sets: Sequence[str], count: int | None = None) -> list[CheckUtterance]:
    """Those of the sets, or so many of them at even distances.

    Raises:
        ValueError: a count below 1, or no utterances there.
    """
    if count is not None and count < 1:
        raise ValueError(f"--utterances {count}: at least 1")
    cuts = list(read_sets(os.fspath(data_dir), list(sets)))
    if not cuts:
        raise ValueError(f"no utterances in {', '.join(sets)} of {data_dir}")
    chosen = [cuts[i * len(cuts) // count] for i in range(count)] if count is not None and len(cuts) > count else cuts
    return [CheckUtterance(c.id, load_samples(c), c.supervisions[0].text or "" if c.supervisions else "") for c in chosen]
