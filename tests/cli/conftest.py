"""Every option of every command, as argparse knows it."""

import argparse
import importlib

import pytest

from voxkit.cli import main as cli
from voxkit.cli.arguments import Parser


def _walk(parser, name):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub, inner in action.choices.items():
                yield from _walk(inner, f"{name} {sub}".strip())
        elif not isinstance(action, argparse._HelpAction):
            yield name, parser, action


@pytest.fixture(scope="session")
def options():
    """(command, parser, action) of each."""
    found = []
    for module, _ in cli.available_commands().values():
        parser = Parser(prog="voxkit")
        importlib.import_module(f"voxkit.cli.{module}").add_parser(parser.add_subparsers())
        found += _walk(parser, "")
    return found
