"""What `voxkit decode` adds to its table: token errors, and word times against known ones."""

from types import SimpleNamespace

import pytest

from voxkit.experiments.measures import boundary_columns, token_error_rate
from voxkit.hypothesis import Hypothesis, Word


def _cut(id, *words):
    alignment = {"word": [SimpleNamespace(symbol=w, start=s, end=e) for w, s, e in words]} if words else None
    return SimpleNamespace(id=id, start=0.0, supervisions=[SimpleNamespace(alignment=alignment)])


def test_token_errors_are_counted_in_tokens():
    tokenizer = SimpleNamespace(encode=lambda text: [ord(c) for c in text])
    found = {"a": Hypothesis("", tokens=[ord(c) for c in "abd"]), "b": Hypothesis("", tokens=[])}
    assert token_error_rate({"a": "abc", "b": "xy"}, found, tokenizer) == pytest.approx(3 / 5)


def test_boundaries_of_right_words():
    cuts = [_cut("a", ("heal", 0.10, 0.40), ("me", 0.50, 0.70)), _cut("b")]
    found = {"a": Hypothesis("heal you", [Word("heal", 0.13, 0.39, 1.0), Word("you", 0.5, 0.7, 1.0)]), "b": Hypothesis("x", [])}
    assert boundary_columns(cuts, found) == {"ms off": "20.0", "ms median": "20.0", "start bias": "+30.0", "end bias": "-10.0",
                                              "F1 50 ms": "50.0"}
    assert boundary_columns([_cut("b")], found) == {}
