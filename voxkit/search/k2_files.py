"""FSAs of k2 as files of plain tensors: k2's own ragged tensors can only be pickled, and a pickle runs what it likes when it is read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from voxkit.files import writing

_SPLITS, _VALUES = "row_splits", "values"


def save_fsa(k2: Any, fsa: Any, path: Path) -> None:
    """Write an FsaVec, atomically; its ragged attributes as row splits and values."""
    content = {name: _plain(k2, value) for name, value in fsa.as_dict().items()}
    with writing(path, "wb") as file:
        torch.save(content, file)


def load_fsa(k2: Any, path: Path, device: torch.device | str) -> Any:
    """Read what `save_fsa` wrote.

    Raises:
        ValueError: the file holds anything but tensors and plain values, as those of earlier versions do, or is damaged.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a graph of plain tensors, and a pickle could run anything ({type(error).__name__}); make it anew "
                         "with `voxkit lm graph`") from error
    return k2.Fsa.from_dict({name: _ragged(k2, value) for name, value in content.items()})


def _plain(k2: Any, value: Any) -> Any:
    if not isinstance(value, k2.RaggedTensor):
        return value
    assert value.num_axes == 2, "labels of arcs are lists of numbers"
    return {_SPLITS: value.shape.row_splits(1), _VALUES: value.values}


def _ragged(k2: Any, value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {_SPLITS, _VALUES}:
        return value
    shape = k2.ragged.create_ragged_shape2(row_splits=value[_SPLITS], cached_tot_size=len(value[_VALUES]))
    return k2.RaggedTensor(shape, value[_VALUES])
