"""How every command reads its options: numbers are finite unless an option says otherwise."""

from __future__ import annotations

import argparse
import math


class Parser(argparse.ArgumentParser):
    """Reads `type=float` as finite numbers, in all sub-commands."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.register("type", float, finite)


def finite(text: str) -> float:
    """A number; nan and inf, which would turn every score into nan, are none."""
    value = _number(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


def limit(text: str) -> float:
    """A number, or inf for no limit."""
    value = _number(text)
    if math.isnan(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit: a number from 0, or inf")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
