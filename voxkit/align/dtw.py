"""Dynamic time warping and the median filter before it; a plain reference beside the fast version. No tensors: the runtime reads this too.

dtw goes over anti-diagonals, where all cells are independent: N + M steps for a whole batch instead of N · M.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dtw(cost: np.ndarray, lengths: Sequence[Sequence[int]] | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cheapest monotonic path from the first to the last cell of each matrix.

    Args:
        cost: [B, N, M].
        lengths: [B, 2] rows and columns that are valid; None: all.

    Returns:
        Per item (rows [P], columns [P]) of the path; ties prefer columns, as Whisper's.
    """
    if cost.ndim != 3 or 0 in cost.shape[1:]:
        raise ValueError(f"cost has shape {tuple(cost.shape)}: [batch, rows, columns] with at least one of each is needed")
    x = cost.astype(np.float64)
    size, rows, columns = x.shape
    sizes = [(rows, columns)] * size if lengths is None else lengths
    # diagonals k = i + j, indexed by i + 1; the border is infinite
    before = np.full((size, rows + 1), np.inf)
    last = np.full((size, rows + 1), np.inf)
    before[:, 0] = 0.0  # the cell before the first
    trace = np.zeros((size, rows, columns), dtype=np.int8)
    for k in range(rows + columns - 1):
        low, high = max(0, k - columns + 1), min(rows, k + 1)
        i = np.arange(low, high)
        choices = np.stack([before[:, i], last[:, i], last[:, i + 1]])  # both, row, column back
        both, up, left = choices
        step = np.where((both < up) & (both < left), 0, np.where((up < both) & (up < left), 1, 2))
        now = np.full((size, rows + 1), np.inf)
        now[:, i + 1] = x[:, i, k - i] + np.take_along_axis(choices, step[None], 0)[0]
        trace[:, i, k - i] = step
        before, last = last, now
    return [_path(trace[b], int(n), int(m)) for b, (n, m) in enumerate(sizes)]


def _path(trace: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    i, j, path = rows - 1, columns - 1, []
    while i >= 0 and j >= 0:
        path.append((i, j))
        if i == 0 and j == 0:
            break
        step = trace[i, j] if i and j else (1 if i else 2)
        i, j = i - (step != 2), j - (step != 1)
    out = np.array(path[::-1])
    return out[:, 0], out[:, 1]


def dtw_reference(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One matrix [N, M], cell by cell."""
    x = cost.tolist()
    rows, columns = len(x), len(x[0])
    total = [[float("inf")] * (columns + 1) for _ in range(rows + 1)]
    total[0][0] = 0.0
    trace = np.zeros((rows, columns), dtype=np.int8)
    for i in range(rows):
        for j in range(columns):
            both, up, left = total[i][j], total[i][j + 1], total[i + 1][j]
            step = 0 if both < up and both < left else 1 if up < both and up < left else 2
            trace[i, j] = step
            total[i + 1][j + 1] = x[i][j] + (both, up, left)[step]
    return _path(trace, rows, columns)


def median_filter(x: np.ndarray, width: int) -> np.ndarray:
    """Median over `width` neighbours along the last dimension, borders reflected; x as is where it is shorter than half of that."""
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width is {width}: a median filter wants an odd number of frames")
    pad = width // 2
    if pad == 0 or x.shape[-1] <= pad:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(pad, pad)], mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), axis=-1).astype(x.dtype)
