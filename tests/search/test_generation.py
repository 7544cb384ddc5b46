"""Greedy generation over a table of transitions, and what stops it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from voxkit.search.attention import attention_beam
from voxkit.search.generation import generate
from voxkit.search.hallucination import REASONS, StopRule, share_heard

BLANK, EOS = 0, 1


@dataclass
class State:
    rows: torch.Tensor

    def select(self, index):
        return State(self.rows[index])


class Table:
    """The next token follows from the last one and the utterance."""

    bos, eos = BLANK, EOS

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores, self.calls = scores.log_softmax(-1), []  # [B, V, V]

    def init_state(self, memory, lengths):
        return State(memory[:, 0, 0].long())

    def step(self, tokens, state):
        self.calls.append(len(tokens))
        return self.scores[state.rows, tokens], state


def chains(*texts: list[int], size: int = 9) -> Table:
    scores = torch.zeros(len(texts), size, size)
    for row, text in enumerate(texts):
        for a, b in zip([BLANK, *text], [*text, EOS]):
            scores[row, a, b] = 5.0
    return Table(scores)


def run(table: Table, limit: list[int], **options):
    size = len(table.scores)
    memory = torch.arange(size).float()[:, None, None]
    return generate(table, memory, torch.ones(size, dtype=torch.long), torch.tensor(limit), forbidden=(BLANK, EOS), **options)


def test_it_says_what_a_beam_of_one_says():
    table = Table(2 * torch.randn(5, 9, 9, generator=torch.Generator().manual_seed(0)))
    found = run(table, [6] * 5)
    memory = torch.arange(5).float()[:, None, None].repeat(1, 6, 1)
    beams = attention_beam(table, memory, torch.full((5,), 6), 1, blank=BLANK, patience=1e9)
    assert any(one.ended == "end" for one in found)
    for one, (best,) in zip(found, beams):
        if one.ended == "end":
            assert one.tokens == best.tokens and one.score == pytest.approx(best.score, abs=1e-4)
            assert one.token_log_probs == pytest.approx(best.token_log_probs, abs=1e-5)


def test_utterances_end_by_themselves_and_leave_the_batch():
    table = chains([2, 3], [4], [2, 5, 6, 7])
    said = []
    found = run(table, [10, 10, 10], told=lambda row, token: said.append((row, token)))
    assert [one.tokens for one in found] == [[2, 3], [4], [2, 5, 6, 7]] and {one.ended for one in found} == {"end"}
    assert table.calls == [3, 3, 2, 1, 1]
    assert [t for r, t in said if r == 2] == [2, 5, 6, 7]


def test_the_limit_and_nobody_speaking():
    found = run(chains([2, 3, 4, 5], [2, 3]), [2, 0])
    assert (found[0].tokens, found[0].ended) == ([2, 3], "length")
    assert (found[1].tokens, found[1].score) == ([], 0.0)
    assert not run(chains([2]), [0])[0].tokens


def test_a_loop_is_cut_behind_its_first_turn():
    scores = torch.zeros(1, 9, 9)
    for a, b in ((0, 2), (2, 3), (3, 4), (4, 5), (5, 3)):  # 2 then 3 4 5 3 4 5 ...
        scores[0, a, b] = 9.0
    one = run(Table(scores), [40], rule=StopRule())[0]
    assert (one.tokens, one.ended) == ([2, 3, 4, 5], "loop") and len(one.token_log_probs) == 4
    free = run(Table(scores), [40])[0]
    assert len(free.tokens) == 40 and min(free.token_log_probs) > -0.01  # sure of every token
    heard = run(Table(scores), [40], rule=StopRule(), expected=torch.tensor([13.0]))[0]
    assert len(heard.tokens) <= 13 and heard.ended == "loop"


@pytest.mark.parametrize("tokens, where", [([1, 2, 3], None), ([7, 7, 7], None), ([7, 7, 7, 7], 1), ([1, 2, 1, 2, 1, 2], 2),
                                           ([5, 1, 2, 1, 2, 1, 2], 3), ([9, 2, 1, 2, 1, 2, 1, 2], 3), ([1, 2, 1, 2, 3], None)])
def test_loops(tokens, where):
    assert StopRule().loop(tokens) == where
    assert StopRule().loop(tokens, expected=len(tokens)) is None  # said that often


def test_reasons():
    rule = StopRule()
    assert rule.judge("end", 5.0, 0.2, 1.0) == ""
    assert [rule.judge("end", 0.1), rule.judge("loop", 5.0), rule.judge("length", 5.0), rule.judge("end", 5.0, 0.1, 0.1),
            rule.judge("end", 5.0, 9.0, 1.0)] == list(REASONS)
    assert rule.most_tokens(0.2) == 0 and rule.most_tokens(10) == 20
    assert share_heard([]) == 1.0 and share_heard([0.9, 0.1, 0.2, 0.8]) == 0.5


@pytest.mark.parametrize("options", [{"repeats": 1}, {"coverage": 2.0}, {"silence": float("nan")}, {"entropy": 0.0}])
def test_rules_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="repeats at least 2"):
        StopRule(**options)
