"""The drawings of a report, as SVG: bars with intervals, and reliability of confidences."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Mapping, Sequence

from voxkit.eval.calibration import Calibration
from voxkit.eval.wer import WerResult


@dataclass(frozen=True)
class Bar:
    """label: below the bar; rate, interval: fractions; note: what the tooltip adds."""

    label: str
    rate: float
    interval: tuple[float, float] | None = None
    note: str = ""


def rate_bars(result: WerResult, labels: Sequence[str], keys: Mapping[str, str], *, samples: int = 1000) -> list[Bar]:
    """One bar for each of the `labels` that holds reference units; `keys` id → label."""
    parts = result.split(keys)
    return [Bar(label, part.rate, part.interval(samples=samples), f"{len(part.utterances)} utterances, {part.words} {part.unit}s")
            for label in labels if (part := parts.get(label)) is not None and part.words]


def bars(found: Sequence[Bar], title: str) -> str:
    """A bar for each rate in percent, whiskers for its interval; its height is cut at 100 %, its figure is not."""
    top = max([0.05, *(min(1.0, max(b.rate, b.interval[1] if b.interval else 0.0)) for b in found)])
    width = 50 + 74 * len(found)

    def y(rate: float) -> float:
        return 190 - 165 * min(rate, top) / top

    parts = [f'<text x="10" y="14">{html.escape(title)}</text><line x1="30" y1="190" x2="{width - 8}" y2="190" stroke="#888"/>']
    for i, b in enumerate(found):
        x = 40 + 74 * i
        span = f"{100 * b.interval[0]:.2f}-{100 * b.interval[1]:.2f} %, " if b.interval else ""
        parts.append(f'<rect x="{x}" y="{y(b.rate):.1f}" width="48" height="{190 - y(b.rate):.1f}" fill="#47a" fill-opacity=".6">'
                     f"<title>{html.escape(f'{b.label}: {100 * b.rate:.2f} %, {span}{b.note}')}</title></rect>")
        if b.interval:
            low, high = y(b.interval[0]), y(b.interval[1])
            lines = f"M{x + 24} {low:.1f}V{high:.1f}M{x + 18} {low:.1f}h12M{x + 18} {high:.1f}h12"
            parts.append(f'<path d="{lines}" stroke="#222" fill="none"/>')
        parts.append(f'<text x="{x}" y="{min(y(b.rate), y(b.interval[1]) if b.interval else 190) - 5:.1f}">{100 * b.rate:.1f}</text>'
                     f'<text x="{x}" y="206">{html.escape(b.label)}</text>')
    return f'<svg width="{width}" height="215">{"".join(parts)}</svg>'


def reliability(c: Calibration) -> str:
    """Accuracy over confidence; dots as large as their share of words."""
    total = sum(n for _, _, n in c.bins)
    dots = "".join(f'<circle cx="{30 + 200 * p:.1f}" cy="{210 - 200 * a:.1f}" r="{3 + 12 * (n / total) ** 0.5:.1f}" fill="#47a" '
                   f'fill-opacity=".6"><title>confidence {p:.2f}, right {a:.2f}, {n} words</title></circle>' for p, a, n in c.bins)
    return ('<svg width="250" height="240"><rect x="30" y="10" width="200" height="200" fill="none" stroke="#ccc"/>'
            '<line x1="30" y1="210" x2="230" y2="10" stroke="#aaa" stroke-dasharray="4"/>'
            f'{dots}<text x="100" y="232">confidence</text><text x="4" y="16">right</text></svg>')
