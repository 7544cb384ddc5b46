"""Pictures: what is drawn where, and that they are whole PNG files."""

import json

import pytest
import torch

from voxkit.checkpoint.format import write_checkpoint
from voxkit.cli.main import main
from voxkit.plot import find_run, mix_weights, plot_curves

pytest.importorskip("matplotlib", reason="pip install 'voxkit[plot]'")
PNG = b"\x89PNG\r\n"


def make_run(root, name, steps, validate=True):
    run = root / name
    run.mkdir()
    records = [{"kind": "event", "step": 0, "epoch": 0, "what": "nothing"}]
    records += [{"kind": "train", "step": s, "epoch": 0, "loss": 9 / s, "ctc": 10 / s, "attention": 8 / s, "lr": 1e-3 / s} for s in steps]
    if validate:
        records += [{"kind": "validation", "step": s, "epoch": 0, "loss": 8 / s, "wer": 0.5 / s} for s in steps[::2]]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, records)) + '\n{"kind": "tr')
    return run


@pytest.fixture
def lines(monkeypatch):
    """The lines of each panel of the last figure: (label, x, y)."""
    import voxkit.plot

    save, seen = voxkit.plot._save, []

    def spy(figure, out):
        seen[:] = [[(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in a.get_lines()] for a in figure.axes]
        return save(figure, out)

    monkeypatch.setattr(voxkit.plot, "_save", spy)
    return seen


def test_stages_follow_each_other(tmp_path, lines):
    runs = [make_run(tmp_path, "20260101_000000_stage1", [1, 2, 4]), make_run(tmp_path, "20260102_000000_stage2", [1, 3])]
    out = plot_curves(runs, tmp_path / "sub" / "curves.png")
    assert out.read_bytes().startswith(PNG) and [p.name for p in out.parent.iterdir()] == ["curves.png"]
    loss, wer, lr = lines
    assert [x for label, x, _ in loss if label == runs[1].name] == [[5, 7]]
    assert [y for label, _, y in wer if label == runs[0].name] == [[50.0, 12.5]]
    assert [x for _, x, _ in lr if len(x) > 2] == [[1, 2, 4]]


def test_every_part_of_a_loss_is_drawn_and_named_once(tmp_path, lines):
    given = (("a", ("cross_entropy", "quantity", "ctc")), ("b", ("cross_entropy", "quantity", "ctc", "intermediate", "boundary", "mwer")))
    for name, parts in given:
        (tmp_path / name).mkdir()
        records = [{"kind": "train", "step": step, "loss": 2.0, **dict.fromkeys(parts, 1.0)} for step in (1, 2)]
        (tmp_path / name / "metrics.json").write_text("\n".join(map(json.dumps, records)))
    plot_curves([tmp_path / "a", tmp_path / "b"], tmp_path / "c.png")
    named = [label for label, _, ys in lines[0] if not label.startswith("_") and ys == [1.0, 1.0]]
    assert sorted(named) == sorted(given[1][1]) and sum(ys == [1.0, 1.0] for _, _, ys in lines[0]) == 9


def test_overlay_begins_at_zero(tmp_path, lines):
    runs = [make_run(tmp_path, "a", [1, 2]), make_run(tmp_path, "b", [1, 2], validate=False)]
    plot_curves(runs, tmp_path / "c.png", overlay=True)
    assert [x for label, x, _ in lines[0] if label in "ab"] == [[1, 2], [1, 2]]


def test_newest_run_of_a_name(tmp_path):
    make_run(tmp_path, "20260101_000000_stage1", [1])
    assert find_run(tmp_path / "stage1").name == "20260101_000000_stage1"
    with pytest.raises(ValueError, match="no checkpoint and no run .*stage2; in .*: 20260101_000000_stage1"):
        find_run(tmp_path / "stage2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no metrics.json in .*empty"):
        find_run(tmp_path / "empty")
    with pytest.raises(ValueError, match=".png"):
        plot_curves([tmp_path / "stage1"], tmp_path / "curves.pdf")


class Mixed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.front_end = torch.nn.Module()
        self.front_end.mix = torch.nn.Module()
        self.front_end.mix.logits = torch.nn.Parameter(torch.tensor([0.0, 1.0, 2.0]))


def test_mix_through_the_command(tmp_path, capsys):
    config = json.dumps({"model": {"front_end": {"pretrained": {"states": [0, 2, 4]}}}})
    path = write_checkpoint(tmp_path, Mixed(), {"step": 1}, save_extra=lambda d: (d / "config.yaml").write_text(config)).path
    weights = mix_weights(path)
    assert list(weights) == [0, 2, 4] and sum(weights.values()) == pytest.approx(1) and weights[4] > weights[2] > weights[0]
    assert main(["plot", "mix", str(path), "--out", str(tmp_path / "mix.png")]) == 0
    assert (tmp_path / "mix.png").read_bytes().startswith(PNG) and "state  4  0.6652" in capsys.readouterr().out


def test_no_mix(tmp_path):
    path = write_checkpoint(tmp_path, torch.nn.Linear(2, 2), {"step": 1}).path
    with pytest.raises(ValueError, match="no layer mix"):
        mix_weights(path)
