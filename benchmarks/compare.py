"""Whether a change made something slower: `python -m benchmarks.compare OLD NEW`, two files that benchmarks wrote with --json.

    python -m benchmarks.cif --json old.jsonl                 # before the change; likewise others, into the same file
    python -m benchmarks.cif --json new.jsonl                 # after it
    python -m benchmarks.compare old.jsonl new.jsonl

A figure got worse where its median did by more than the tolerance, and no round of the new run reaches the old median: on a busy machine
rounds differ by more than a change does. A figure that OLD has and NEW lacks counts as worse. The exit status says whether any did.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from benchmarks.figures import UNITS, Figure, read_figures
from voxkit.eval.table import format_table

Figures = Mapping[tuple[str, str, str], Figure]


def compare(old: Figures, new: Figures, tolerance: float = 0.1) -> list[dict[str, str]]:
    """A row for each figure of both, with what became of it: same, better, worse, missing or new."""
    rows = []
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        rows.append({"benchmark": key[0], "what": key[1], "unit": key[2], "old": _shown(a), "new": _shown(b),
                     "change": f"{100 * (b.value / a.value - 1):+.1f} %" if a and b else "", "verdict": _verdict(a, b, tolerance)})
    return rows


def _verdict(old: Figure | None, new: Figure | None, tolerance: float) -> str:
    if old is None or new is None:
        return "new" if old is None else "missing"
    more = UNITS[old.unit]
    gain = new.value / old.value if more else old.value / new.value
    reached = new.high >= old.value if more else new.low <= old.value
    if gain < 1 / (1 + tolerance) and not reached:
        return "worse"
    return "better" if gain > 1 + tolerance else "same"


def _shown(figure: Figure | None) -> str:
    return f"{figure.value:.3g} ({figure.low:.3g}-{figure.high:.3g})" if figure else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table → 1 where anything got worse or is missing, 2 for files that are none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--tolerance", type=float, default=0.1, help="share by which a figure may get worse (default 0.1)")
    args = parser.parse_args(argv)
    if not args.tolerance >= 0:
        parser.error(f"--tolerance {args.tolerance}: a share, 0 or more")
    try:
        rows = compare(read_figures(args.old), read_figures(args.new), args.tolerance)
    except ValueError as error:
        print(f"benchmarks.compare: {error}", file=sys.stderr)
        return 2
    bad = [row for row in rows if row["verdict"] in ("worse", "missing")]
    print(format_table(rows))
    print(f"{len(bad)} of {len(rows)} figures got worse" if bad else f"none of {len(rows)} figures got worse")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
