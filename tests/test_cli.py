"""The command line's table: fast help, one import, errors in one line."""

import subprocess
import sys
import types

import pytest

from voxkit.cli import main as cli
from voxkit.config import ConfigError
from voxkit.optional import MissingPackage


@pytest.fixture
def command(monkeypatch):
    """A command `doctor` whose `run` is the test's own function."""

    def install(run):
        def add_parser(subparsers):
            subparsers.add_parser("doctor").add_argument("--number", type=int, default=0)

        monkeypatch.setattr(cli.importlib, "import_module", lambda name: types.SimpleNamespace(add_parser=add_parser, run=run))

    monkeypatch.delenv("VOXKIT_DEBUG", raising=False)
    return install


@pytest.mark.parametrize("argv, overrides", [
    (["exp/main", "a.b=1", "--sets", "x"], ["a.b=1"]), (["exp/main", "--limit", "3", "a.b=1", "c=2"], ["a.b=1", "c=2"]),
    (["exp/main", "a.b=1", "--limit", "3", "c=2"], ["a.b=1", "c=2"])])
def test_overrides_may_stand_behind_options(monkeypatch, argv, overrides):
    seen = {}
    monkeypatch.setattr("voxkit.cli.decode.run", lambda args: seen.update(vars(args)))
    assert cli.main(["decode", *argv]) == 0
    assert seen["overrides"] == overrides and seen["checkpoint"] == "exp/main"


@pytest.mark.parametrize("argv, last", [
    (["a.b=1", "--config", "x.yaml", "y.yaml", "a.b=2"], "2"), (["--config", "x.yaml", "y.yaml", "a.b=2", "--threads", "1", "a.b=1"], "1"),
    (["--config", "x.yaml", "y.yaml", "a.b=1", "a.b=2", "a.b=1"], "1")])
def test_the_last_override_on_the_line_counts(monkeypatch, argv, last):
    seen = {}
    monkeypatch.setattr("voxkit.cli.train.run", lambda args: seen.update(vars(args)))
    assert cli.main(["train", *argv]) == 0
    assert seen["config"] == ["x.yaml", "y.yaml"] and seen["overrides"] == [word for word in argv if word.startswith("a.b=")]
    assert seen["overrides"][-1] == f"a.b={last}"


def test_overrides_of_info_may_stand_behind_options(tmp_path, capsys):
    (tmp_path / "conf.yaml").write_text("system: paraformer\nmodel: {front_end: {kind: stacked}, encoder: {dim: 8, heads: 2, layers: 1}}\n")
    given = ["info", str(tmp_path / "conf.yaml"), "model.decoder.layers=1", "--vocab-size", "30", "model.loss.ctc=0"]
    assert cli.main(given[:-1]) == 0 and "ctc" in capsys.readouterr().out
    assert cli.main(given) == 0 and "ctc" not in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["decode", "exp/main", "--limit", "3", "more"], ["decode", "exp/main", "--limits=3"],
                                  ["decode", "exp/main", "--nothing", "a=1"], ["doctor", "a=1"]])
def test_what_is_no_option_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


def fail(error):
    def run(args):
        raise error

    return run


def test_every_listed_module_keeps_the_contract():
    import importlib

    for module_name, _ in cli.available_commands().values():
        module = importlib.import_module(f"voxkit.cli.{module_name}")
        assert callable(module.add_parser) and callable(module.run), module_name


@pytest.mark.parametrize("name", sorted(cli.available_commands()))
def test_help_of_every_command(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"voxkit {name}" in capsys.readouterr().out


def test_help_lists_commands_and_imports_nothing_heavy():
    script = ("import sys; from voxkit.cli.main import main; status = main(['--help'])\n"
              "heavy = {'torch', 'numpy', 'lhotse', 'omegaconf', 'transformers'} & set(sys.modules)\n"
              "sys.exit(f'imported {heavy}' if heavy else status)")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "doctor" in result.stdout and "new-recipe" in result.stdout


def test_a_tokenizer_is_trained_without_torch(tmp_path):
    cuts = tmp_path / "cuts_train.jsonl"
    cuts.write_text("".join(f'{{"id": "{i}", "supervisions": [{{"text": "HEAL ME {i}"}}], "duration": 1.0}}\n' for i in range(3)))
    script = ("import sys; from voxkit.cli.main import main\n"
              f"status = main(['tokenize', '--cuts', {str(cuts)!r}, '--kind', 'char', '--out', {str(tmp_path / 'tokens')!r}])\n"
              "heavy = {'torch', 'lhotse', 'transformers'} & set(sys.modules)\n"
              "sys.exit(f'imported {heavy}' if heavy else status)")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "3 transcripts" in result.stdout and (tmp_path / "tokens/tokenizer.model").is_file()


def test_listed_are_only_commands_that_are_there():
    from pathlib import Path

    for module_name, _ in cli.available_commands().values():
        assert (Path(cli.__file__).parent / f"{module_name}.py").is_file()


def test_unknown_command_lists_the_names(capsys):
    assert cli.main(["dokter"]) == 2
    error = capsys.readouterr().err
    assert "'dokter'" in error and "doctor" in error and "new-recipe" in error


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("voxkit 0.")


def test_nothing_asked_for_shows_help_and_is_a_mistake(capsys):
    assert cli.main([]) == 2
    assert "usage: voxkit" in capsys.readouterr().out


def test_arguments_and_status_pass_through(command):
    command(lambda args: args.number)
    assert cli.main(["doctor", "--number", "3"]) == 3
    command(lambda args: None)
    assert cli.main(["doctor"]) == 0


@pytest.mark.parametrize("error", [
    ValueError("lr must be above 0"), ConfigError("train.lrr: no such option"), MissingPackage("k2 is needed"),
    FileNotFoundError("no cuts.jsonl.gz"),
])
def test_user_errors_are_one_line_without_a_traceback(command, capsys, error):
    command(fail(error))
    assert cli.main(["doctor"]) == 2
    shown = capsys.readouterr().err
    assert f"voxkit doctor: error: {error}" in shown and "Traceback" not in shown


def test_a_missing_file_is_named(command, capsys):
    command(lambda args: open("/nowhere/cuts.jsonl.gz"))
    assert cli.main(["doctor"]) == 2
    assert "no such file or folder: /nowhere/cuts.jsonl.gz" in capsys.readouterr().err


def test_our_own_errors_keep_their_traceback(command):
    command(fail(KeyError("states")))
    with pytest.raises(KeyError):
        cli.main(["doctor"])


@pytest.mark.parametrize("ask", ["flag", "environment"])
def test_debug_shows_the_traceback(command, monkeypatch, ask):
    command(fail(ValueError("x")))
    if ask == "environment":
        monkeypatch.setenv("VOXKIT_DEBUG", "1")
    with pytest.raises(ValueError):
        cli.main((["--debug"] if ask == "flag" else []) + ["doctor"])


def test_interrupt(command):
    command(fail(KeyboardInterrupt()))
    assert cli.main(["doctor"]) == 130
