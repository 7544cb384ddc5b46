"""Numbers of the command line are finite, in every command."""

import argparse
import subprocess
import sys

import pytest

from voxkit.cli import main as cli
from voxkit.cli.arguments import Parser, finite, limit

ENDLESS = {"length_limit"}  # "inf: no limit"


def test_every_number_of_every_command_is_finite(options):
    floats = [(command, parser, action) for command, parser, action in options if action.type in (float, finite, limit)]
    assert len(floats) > 25
    for command, parser, action in floats:
        for text in ("nan", "NaN", "-nan", *(() if action.dest in ENDLESS else ("inf", "-inf", "1e999", "infinity"))):
            with pytest.raises(argparse.ArgumentError, match=rf"{text!r} is no (finite number|limit)"):
                parser._get_value(action, text)
        assert parser._get_value(action, "0.5") == 0.5, (command, action.dest)


@pytest.mark.parametrize("argv", [["decode", "exp/x", "--boost", "nan"], ["decode", "exp/x", "--lm-weight", "inf"],
                                  ["transcribe", "exp/x", "a.wav", "--length-bonus", "nan"], ["decode", "exp/x", "--chunk-ms", "nan"],
                                  ["tune", "exp/x", "--lm-weights", "0.1", "inf"], ["serve", "exp/x", "--timeout", "1e400"],
                                  ["prepare", "folder", "--out", "x", "--dev", "nan"], ["decode", "exp/x", "--length-limit", "nan"]])
def test_a_number_that_is_none_is_a_mistake_of_the_command_line(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2 and f"{argv[-1]!r} is no" in capsys.readouterr().err


def test_limits_have_no_end_where_that_is_meant():
    assert limit("inf") == float("inf") and limit("1.2") == 1.2
    for text in ("nan", "-1", "many"):
        with pytest.raises(argparse.ArgumentTypeError):
            limit(text)
    assert Parser().parse_args([]) == argparse.Namespace()


@pytest.mark.parametrize("argv", ["--help", "decode --help", "--version", "doctor --help", "nothing"])
def test_a_reader_that_has_enough_ends_it_quietly(argv):
    """As `voxkit --help | head` does."""
    code = (f"import subprocess, sys\np = subprocess.Popen([sys.executable, '-m', 'voxkit.cli.main', *{argv.split()!r}], "
            "stdout=subprocess.PIPE, stderr=subprocess.PIPE)\np.stdout.close()\n_, said = p.stderr.read(), p.wait()\n"
            "print(_.decode())")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Traceback" not in said and "BrokenPipe" not in said and (said.strip() == "" or argv == "nothing"), said
