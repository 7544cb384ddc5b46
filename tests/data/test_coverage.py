"""Sets whose transcripts a vocabulary cannot spell are named, and refused above a share."""

from __future__ import annotations

import logging

import pytest
from lhotse import MonoCut, SupervisionSegment

from voxkit.data.coverage import check_coverage


class Capitals:
    """One token per letter; id 1 is unknown."""

    unk: int | None = 1

    def encode(self, text: str) -> list[int]:
        return [ord(c) - 60 if c.isascii() and (c.isupper() or c in " '") else 1 for c in text]


class Bytes(Capitals):
    unk = None


def cuts(*texts: str) -> list[MonoCut]:
    return [MonoCut(f"u{n}", 0.0, 1.0, 0, supervisions=[SupervisionSegment(f"u{n}", f"u{n}", 0.0, 1.0, text=text)])
            for n, text in enumerate(texts)]


@pytest.mark.parametrize("text", ["hold the bridge", "удержать мост", "HOLD THE CAFÉ"])
def test_text_of_another_case_or_script_is_refused(text):
    with pytest.raises(ValueError, match=r"data\.train: 30 of 100 texts hold characters that the tokenizer lacks, .*u0.*voxkit tokenize"):
        check_coverage(cuts(*[text] * 30, *["HOLD"] * 70), Capitals(), "data.train")


def test_the_odd_character_is_named_and_let_pass(caplog):
    texts = ["HOLD THE BRIDGE"] * 50 + ["CAFÉ"]
    with caplog.at_level(logging.WARNING):
        found = check_coverage(cuts(*texts), Capitals(), "data.dev")
    assert found.lacking == ["u50"] and "'É'" in caplog.text and "u50" in caplog.text
    with pytest.raises(ValueError, match="data.dev"):
        check_coverage(cuts(*texts), Capitals(), "data.dev", most=0.0)


def test_nothing_is_said_where_all_is_known(caplog):
    check_coverage(cuts("HOLD"), Capitals(), "x"), check_coverage(cuts("é"), Bytes(), "x"), check_coverage([], Capitals(), "x")
    assert not caplog.text
