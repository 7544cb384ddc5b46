"""Transcripts that a vocabulary cannot spell are counted, named, and refused above a share."""

from __future__ import annotations

import logging

import pytest

from voxkit.data.coverage import check_coverage, measure_coverage


class Capitals:
    """One token per letter; id 1 is unknown."""

    unk: int | None = 1

    def encode(self, text: str) -> list[int]:
        return [ord(c) - 60 if c.isascii() and (c.isupper() or c in " '") else 1 for c in text]


UPPER = [(f"u{i}", "HOLD THE BRIDGE") for i in range(200)]


@pytest.mark.parametrize("change, said", [(str.lower, "In upper case it knows them: prepare the set with --text librispeech"),
                                          (lambda text: "удержать мост", "Train a tokenizer on these transcripts")])
def test_text_of_another_case_or_script_is_refused(change, said):
    with pytest.raises(ValueError, match=r"data.train: \d+ of \d+ tokens .* in 200 of 200 transcripts are unknown .*u0: ") as error:
        check_coverage([(id, change(text)) for id, text in UPPER], Capitals(), "data.train")
    assert said in str(error.value)


def test_the_odd_character_is_named_and_let_pass(caplog):
    with caplog.at_level(logging.WARNING):
        found = check_coverage([*UPPER, ("u200", "CAFÉ")], Capitals(), "data.dev")
    assert (found.unknown, found.touched, found.transcripts) == (1, 1, 201) and "'É'" in caplog.text and "u200" in caplog.text
    with pytest.raises(ValueError, match="data.dev"):
        check_coverage([*UPPER, ("u200", "CAFÉ")], Capitals(), "data.dev", most=0.0)


def test_all_known_and_a_vocabulary_that_knows_all_say_nothing(caplog):
    class Bytes(Capitals):
        unk = None

    assert check_coverage(UPPER, Capitals(), "x").report() == "" and measure_coverage([("u", "é")], Bytes()).unknown == 0
    assert not caplog.text and measure_coverage([], Capitals()).share == 0.0
