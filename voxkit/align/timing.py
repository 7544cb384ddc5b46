"""Where words begin and end, from where a CTC model's tokens spike.

CTC spikes somewhere inside a token, and where depends on the token and on how fast it is spoken; outside of the spikes there is blank.
`WordTiming` shifts all starts and all ends alike. `TokenTiming` knows the distance from the spike to the boundary for every token and its
neighbor: a ridge regression over token identity and the gaps between spikes, fitted on speech with known word times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from voxkit.align.spans import TokenSpan
from voxkit.text.vocabulary import Vocabulary

_CONSTANT = ("", 10.0)  # large, so that the ridge hardly shrinks its weight
_GAP = 1.0  # seconds: longer pauses say no more


@dataclass
class WordTiming:
    """The same shift for every word.

    Attributes:
        start_shift, end_shift: seconds added to word starts and ends; `fit_word_timing` finds them on speech with known times.
    """

    start_shift: float = 0.0
    end_shift: float = 0.0

    def places(self, groups: Sequence[Sequence[TokenSpan]], step: float, duration: float | None) -> list[tuple[float, float]]:
        """Start and end of each word (a group of spans), seconds."""
        return [(g[0].start * step + self.start_shift, g[-1].end * step + self.end_shift) for g in groups]


@dataclass
class TokenTiming:
    """A shift for every token: weights of the features of a word's start and of its end (seconds)."""

    start: dict[str, float] = field(default_factory=dict)
    end: dict[str, float] = field(default_factory=dict)

    def places(self, groups: Sequence[Sequence[TokenSpan]], step: float, duration: float | None) -> list[tuple[float, float]]:
        """Start and end of each word, seconds."""
        out = []
        for i, group in enumerate(groups):
            first, last = _middle(group[0], step), _middle(group[-1], step)
            start = first + sum(self.start.get(k, 0.0) * v for k, v in _features(groups, i, step, duration, False).items())
            end = last + sum(self.end.get(k, 0.0) * v for k, v in _features(groups, i, step, duration, True).items())
            out.append((start, max(end, start)))
        return out

    @classmethod
    def fit(cls, examples: Sequence[tuple[Sequence[Sequence[TokenSpan]], Sequence[tuple[float, float]], float]], step: float,
            ridge: float = 0.3) -> TokenTiming:
        """Fit.

        Args:
            examples: per utterance: the spans of each word, its true (start, end) in seconds, and the seconds of audio.
            step: seconds per frame.
            ridge: what a weight of 1 s costs, in squared seconds; rare tokens stay near the common shift.

        Raises:
            ValueError: no words.
        """
        sides = []
        for at_end in (False, True):
            rows, targets = [], []
            for groups, true, duration in examples:
                for i, (group, place) in enumerate(zip(groups, true)):
                    rows.append(_features(groups, i, step, duration, at_end))
                    targets.append(place[at_end] - _middle(group[-1 if at_end else 0], step))
            if not rows:
                raise ValueError("no word with a known time: word times cannot be fitted; give a set whose cuts carry word alignments")
            names = {name: i for i, name in enumerate(sorted({n for row in rows for n in row}))}
            x = np.zeros((len(rows), len(names)))
            for i, row in enumerate(rows):
                for name, value in row.items():
                    x[i, names[name]] = value
            weights = np.linalg.solve(x.T @ x + ridge * np.eye(len(names)), x.T @ np.asarray(targets))
            sides.append({name: round(float(weights[i]), 5) for name, i in names.items()})
        return cls(*sides)


def word_groups(spans: Sequence[TokenSpan], vocabulary: Vocabulary) -> list[tuple[str, list[TokenSpan]]]:
    """Each word that the spans' tokens spell, with its spans; spans without a letter are in no word."""
    spans = [span for span in spans if span.token not in vocabulary.specials]
    return [(word, spans[places.start:places.stop]) for word, places in vocabulary.words([span.token for span in spans])]


def _middle(span: TokenSpan, step: float) -> float:
    return (span.start + span.end) / 2 * step


def _features(groups: Sequence[Sequence[TokenSpan]], i: int, step: float, duration: float | None, at_end: bool) -> dict[str, float]:
    """What the distance from a word's outer spike to its boundary depends on: the token, the neighbor's, the gaps between spikes."""
    group = groups[i]
    before = _middle(groups[i - 1][-1], step) if i else 0.0
    after = _middle(groups[i + 1][0], step) if i + 1 < len(groups) else duration
    gap_before = _middle(group[0], step) - before
    gap_after = after - _middle(group[-1], step) if after is not None else _GAP
    own = group[-1 if at_end else 0].token
    other = (groups[i + 1][0].token if i + 1 < len(groups) else -1) if at_end else (groups[i - 1][-1].token if i else -1)
    return {f"token {own}": 1.0, f"beside {other}": 0.5, "before": min(gap_before, _GAP), "after": min(gap_after, _GAP),
            "length": _middle(group[-1], step) - _middle(group[0], step), "first": float(i == 0), "last": float(i + 1 == len(groups)),
            _CONSTANT[0]: _CONSTANT[1]}
