"""--again: a record in the place of all other options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxkit.experiments.records import Record


def add_again_argument(parser: argparse.ArgumentParser, what: str, where: str) -> None:
    """Register it: what it repeats, and which files are its records."""
    parser.add_argument("--again", metavar="RECORD", help=f"repeat {what} from its record ({where}) and compare; nothing else needs to be "
                                                          "given")


def refuse_besides(args: argparse.Namespace, add_parser: Callable[[Any], Any], command: str, taken: Sequence[str]) -> None:
    """What --again does not look at is refused; `taken`: the options that may stand beside it.

    Raises:
        ValueError: with the options that were given and would be ignored.
    """
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="command"))
    absent = vars(parser.parse_args([command]))
    besides = [name if name in ("checkpoint", "overrides") else _option(name) for name, value in vars(args).items()
               if name not in ("again", *taken) and value != absent.get(name)]
    if besides:
        raise ValueError(f"--again takes everything from the record, not from {', '.join(besides)}: "
                         f"give only {' or '.join(map(_option, taken))} besides")


def say_whether_same(record: Record, differing: list[str], said: str) -> int:
    """Print whether a result is the recorded one → the command's status.

    Args:
        differing: what is not the same; said: what to say of the result where all is.
    """
    import importlib

    made = record.made
    if differing:
        packages = [name for name in ("torch", "numpy") if name in made]
        was = ", ".join([f"git {made['git'][:12]}", *(f"{name} {made[name]}" for name in packages),
                         *([f"device {made['device']}"] if "device" in made else [])])
        now = ", ".join(str(importlib.import_module(name).__version__) for name in packages)
        print(f"not what the record of {made['date']} says: {', '.join(differing)} ({was} then; {now} now)")
        return 1
    print(f"the same as recorded on {made['date']}: {said}")
    return 0


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
