"""`voxkit serve` puts its options where they belong, and finds what was fitted for the confidences."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.infer.records import write_tuned
from voxkit.cli import serve
from voxkit.run_config import DecodeConfig
from voxkit.search.heads import Heads


@pytest.fixture
def made(monkeypatch, tmp_path):
    """What `application` made: path, device, search, calibration, config; of a run `tmp_path` whose model is none."""
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    made = {}
    config = SimpleNamespace(decode=DecodeConfig(method="beam", beam=7, length_bonus=0.5))
    model = SimpleNamespace(heads=Heads(ctc="a head", parallel="a decoder"))
    loaded = SimpleNamespace(model=model, vocabulary=None, setup=SimpleNamespace(config=config),
                             path=tmp_path / "checkpoints" / "averaged")
    monkeypatch.setattr("voxkit.experiments.search.load_checkpoint",
                        lambda path, device, overrides: made.update(path=path, device=device) or loaded)
    monkeypatch.setattr("voxkit.experiments.serving_checkpoint.TorchBackend",
                        lambda recognizer, search, calibration: made.update(search=search, calibration=calibration))
    monkeypatch.setattr("voxkit.experiments.serving.create_app", lambda backend, config: made.update(config=config))
    return made


def _calibrate(path: Path, **temperatures) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    methods = {label: {"temperature": t, "set": "dev"} for label, t in temperatures.items()}
    path.write_text(json.dumps({"methods": methods, "timing": {"start_shift": -0.1, "end_shift": 0.2}}))
    return str(path)


def _application(args):
    from voxkit.experiments.serving import application

    return application(serve._job(args), print)


def _options(*more):
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return parser.parse_args(["serve", "exp/main", *more])


def test_options_reach_the_application(made):
    _application(_options("--device", "cpu", "--max-seconds", "5", "--max-megabytes", "2", "--max-batch", "3", "--timeout", "9"))
    config = made["config"]
    assert (made["path"], str(made["device"])) == ("exp/main", "cpu")
    assert (made["search"].method, made["search"].beam, made["search"].length_bonus) == ("beam", 7, 0.5)
    assert (config.limits.max_seconds, config.limits.max_bytes) == (5.0, 2 * 2**20)
    assert (config.batching.max_batch, config.limits.timeout) == (3, 9.0)
    _application(_options("--device", "cpu", "--method", "greedy", "--beam", "2"))
    assert (made["search"].method, made["search"].beam) == ("greedy", 2)


def test_what_was_tuned_in_the_run_is_taken(made, tmp_path):
    (tmp_path / "decode").mkdir()
    write_tuned(tmp_path / "decode" / "tuned.json", {"beam": {"ctc_weight": 0.9}})
    _application(_options("--tuned"))
    assert made["search"].ctc_weight == 0.9
    _application(_options("--tuned", "--ctc-weight", "0.2"))
    assert made["search"].ctc_weight == 0.2


def test_the_calibration_of_the_run_is_found(made, tmp_path, capsys):
    _application(_options())
    assert made["calibration"] is None and "confidences are not calibrated: nothing was fitted for beam" in capsys.readouterr().out
    _calibrate(tmp_path / "decode" / "calibration.json", greedy=2.0, beam=0.5, ctc_greedy=1.5)
    _application(_options())
    assert made["calibration"] == {"temperature": 0.5, "set": "dev"}
    assert made["search"].timing is None  # CIF says where words are
    _application(_options("--method", "ctc_greedy"))
    assert made["calibration"]["temperature"] == 1.5 and made["search"].timing.end_shift == 0.2
    _application(_options("--method", "greedy"))
    assert made["calibration"]["temperature"] == 2.0
    assert "not calibrated" not in capsys.readouterr().out
    _application(_options("--method", "prefix_beam"))
    assert made["calibration"] is None and "nothing was fitted for prefix_beam" in capsys.readouterr().out


def test_another_calibration_is_named(made, tmp_path):
    _calibrate(tmp_path / "decode" / "calibration.json", beam=0.5)
    other = _calibrate(tmp_path / "other.json", beam=3.0)
    _application(_options("--calibration", other))
    assert made["calibration"]["temperature"] == 3.0
    with pytest.raises(ValueError, match="other.json: no temperature for greedy, only for beam; fit one with"):
        _application(_options("--calibration", other, "--method", "greedy"))
    with pytest.raises(ValueError, match="nowhere.json: no such file"):
        _application(_options("--calibration", str(tmp_path / "nowhere.json")))


def test_a_temperature_of_other_settings_is_not_taken(made, tmp_path, capsys):
    fitted = tmp_path / "decode" / "calibration.json"
    fitted.parent.mkdir()
    settings = {"beam": 7, "ctc_weight": 0.3, "times": "alignment"}
    fitted.write_text(json.dumps({"methods": {"beam": {"temperature": 0.5, "settings": settings}}}))
    _application(_options())
    assert made["calibration"]["temperature"] == 0.5
    _application(_options("--beam", "8"))
    assert made["calibration"] is None and "is for beam 7 and not 8; fit it anew" in capsys.readouterr().out
    with pytest.raises(ValueError, match="what was fitted for beam is for ctc_weight 0.3 and not 0.5"):
        _application(_options("--ctc-weight", "0.5", "--calibration", str(fitted)))


@pytest.mark.parametrize("content, message", [
    ("{", "calibration.json is no calibration"), ("[]", "is no calibration"), ('{"methods": {"beam": {}}}', "is no calibration"),
    ('{"methods": {"beam": {"temperature": 0}}}', "the temperature of beam is 0.0, and must be above 0"),
    ('{"methods": {"beam": {"temperature": NaN}}}', "the temperature of beam is nan, and must be above 0"),
])
def test_a_damaged_calibration_is_refused(made, tmp_path, content, message):
    (tmp_path / "decode").mkdir()
    (tmp_path / "decode" / "calibration.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        _application(_options())


def test_what_a_method_does_not_take_is_refused_before_serving(made, monkeypatch):
    monkeypatch.setattr("voxkit.infer.recognizer.load_language_model", lambda *given: object())
    with pytest.raises(ValueError, match=r"method greedy takes no language model \(--lm\)"):
        _application(_options("--method", "greedy", "--lm", "lm.arpa"))
    _application(_options("--lm", "lm.arpa"))
    assert made["search"].lm is not None
