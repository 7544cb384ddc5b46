"""Two runs of the benchmarks: what got worse is found, what only varies is not."""

import argparse
import json

import pytest

from benchmarks.compare import main
from benchmarks.figures import Figures, read_figures


def _write(path, **figures):
    for name, (values, unit) in figures.items():
        Figures("b", str(path)).add(name, values, unit)
    return str(path)


@pytest.mark.parametrize("old, new, verdict", [
    (([2.0, 2.1, 1.9], "times"), ([1.0, 1.1, 0.9], "times"), "worse"), (([2.0, 2.1, 1.9], "times"), ([1.7, 2.2, 1.6], "times"), "same"),
    (([2.0], "times"), ([1.95], "times"), "same"), (([2.0], "times"), ([4.0], "times"), "better"),
    (([100.0], "MB"), ([150.0], "MB"), "worse"), (([100.0], "MB"), ([105.0], "MB"), "same"), (([100.0], "MB"), ([50.0], "MB"), "better")])
def test_what_became_of_a_figure(tmp_path, capsys, old, new, verdict):
    status = main([_write(tmp_path / "old.jsonl", x=old), _write(tmp_path / "new.jsonl", x=new)])
    assert status == (verdict == "worse") and verdict in capsys.readouterr().out


def test_a_figure_that_is_missing_counts_as_worse_and_a_new_one_does_not(tmp_path, capsys):
    one, both = _write(tmp_path / "a.jsonl", x=([2.0], "times")), _write(tmp_path / "b.jsonl", x=([2.0], "times"), y=([3.0], "times"))
    assert main([one, both]) == 0 and "new" in capsys.readouterr().out
    assert main([both, one]) == 1 and "missing" in capsys.readouterr().out


def test_the_tolerance_is_asked_for(tmp_path):
    old, new = _write(tmp_path / "a.jsonl", x=([2.0], "times")), _write(tmp_path / "b.jsonl", x=([1.7], "times"))
    assert main([old, new]) == 1 and main([old, new, "--tolerance", "0.3"]) == 0
    with pytest.raises(SystemExit):
        main([old, new, "--tolerance", "nan"])


def test_the_last_run_of_a_benchmark_counts(tmp_path):
    path = _write(tmp_path / "a.jsonl", x=([2.0, 3.0, 7.0], "times"))
    _write(tmp_path / "a.jsonl", x=([5.0], "times"))
    figure = read_figures(path)["b", "x", "times"]
    assert (figure.value, figure.low, figure.high, figure.rounds) == (5.0, 5.0, 5.0, 1)
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])["value"] == 3.0


@pytest.mark.parametrize("content, said", [("", "no figure"), ("{}\n", "line 1"), ("[1]\n", "line 1"), ("x\n", "line 1"),
                                           ('{"benchmark": "b", "what": "x", "unit": "s", "value": 1, "low": 1, "high": 1, "rounds": 1}\n',
                                            "unit 's'"),
                                           ('{"benchmark": "b", "what": "x", "unit": "MB", "value": 0, "low": 1, "high": 1, "rounds": 1}\n',
                                            "value 0")])
def test_a_file_that_is_none_is_named(tmp_path, capsys, content, said):
    (tmp_path / "a.jsonl").write_text(content)
    assert main([str(tmp_path / "a.jsonl"), str(tmp_path / "a.jsonl")]) == 2
    assert "a.jsonl" in (error := capsys.readouterr().err) and said in error
    assert main([str(tmp_path / "none.jsonl"), str(tmp_path / "a.jsonl")]) == 2


def test_every_benchmark_writes_its_figures(repository):
    """But for one that measures errors, and not what they cost."""
    for path in (repository / "benchmarks").glob("*.py"):
        if path.stem not in ("__init__", "figures", "compare", "lact_adaptation"):
            text = path.read_text(encoding="utf-8")
            assert "Figures.add_argument(" in text and ".add(" in text and ".json" in text, path.name


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Figures("b", None).add("x", [1.0])
    parser = argparse.ArgumentParser()
    Figures.add_argument(parser)
    assert parser.parse_args([]).json is None and not list(tmp_path.iterdir())
