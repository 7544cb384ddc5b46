"""`voxkit generate`: a file, standard output, a prompt, a state taken up."""

import io
import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from tests.noise import noise_set
from voxkit import config as configuration
from voxkit.checkpoint.format import write_checkpoint
from voxkit.cli.main import main
from voxkit.codecs.mel_codec import MelCodec, MelCodecConfig
from voxkit.codecs.quantizer import QuantizerConfig
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.run_config import make_setup


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of an untrained generator over an untrained causal codec."""
    root = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    tokenizer = AudioTokenizer(MelCodec(MelCodecConfig(dim=16, encoder_layers=1, decoder_layers=1, head_layers=1, mels=16, causal=True,
                                                       quantizer=QuantizerConfig(codebooks=2, size=8))).eval())
    setup = make_setup(configuration.OmegaConf.create({"system": "lact_audio", "model": {
        "lact": {"dim": 16, "heads": 2, "ffn": 16, "layers": 1, "left": 8, "fast": {"heads": 2, "chunk": 8}},
        "depth": {"dim": 8, "heads": 2, "ffn": 8, "layers": 1}}}))
    model = setup.build_model(tokenizer)

    def extra(folder):
        configuration.save(setup.as_mapping(), folder / "config.yaml")
        tokenizer.save(folder)

    write_checkpoint(root / "run" / "checkpoints", model, {"step": 0, "tokenizer": tokenizer.fingerprint()}, save_extra=extra)
    soundfile.write(root / "prompt.wav", 0.1 * np.random.default_rng(0).standard_normal(48_000), 48_000)
    return root


def test_a_file_and_standard_output_say_the_same(run_dir, capsysbinary):
    out = run_dir / "out.wav"
    common = ["generate", str(run_dir / "run"), "--prompt", str(run_dir / "prompt.wav"), "--prompt-seconds", "0.5", "--seconds", "1",
              "--seeds", "5", "--top-k", "4"]
    assert main([*common, "--out", str(out)]) == 0
    whole, rate = soundfile.read(out, dtype="int16")
    capsysbinary.readouterr()
    assert main([*common, "--stream", "--buffer", "0.1"]) == 0
    streamed = np.frombuffer(capsysbinary.readouterr().out, "<i2")
    assert rate == 16_000 and len(streamed) == 16_000  # what the prompt owes comes first, what the last frame owes does not
    assert len(whole) == 16_240 and np.abs(whole[:16_000].astype(int) - streamed).max() <= 1  # a file ends whole: 15 ms of synthesis more


def test_a_file_has_all_its_seconds_and_a_kept_state_owes_some(run_dir):
    command = ["generate", str(run_dir / "run"), "--seconds", "0.5", "--out"]
    assert main([*command, str(run_dir / "all.wav")]) == 0
    assert main([*command, str(run_dir / "kept.wav"), "--save-state", str(run_dir / "kept.safetensors")]) == 0
    whole, kept = (soundfile.read(run_dir / f"{name}.wav", dtype="int16")[0] for name in ("all", "kept"))
    assert len(whole) == 8_000 == len(kept) + 240 and np.array_equal(whole[:len(kept)], kept)


def test_a_state_is_taken_up(run_dir, monkeypatch):
    state, parts = run_dir / "state.safetensors", []
    command = ["generate", str(run_dir / "run")]
    assert main([*command, "--seconds", "1.2", "--seeds", "3", "--out", str(run_dir / "whole.wav")]) == 0
    assert main([*command, "--seconds", "0.5", "--seeds", "3", "--out", str(run_dir / "a.wav"), "--save-state", str(state)]) == 0
    assert main([*command, "--seconds", "0.7", "--state", str(state), "--out", str(run_dir / "b.wav")]) == 0
    parts = np.concatenate([soundfile.read(run_dir / f"{name}.wav", dtype="int16")[0] for name in "ab"])
    whole = soundfile.read(run_dir / "whole.wav", dtype="int16")[0]
    assert len(parts) == len(whole) and np.abs(parts.astype(int) - whole).max() <= 1
    assert main([*command, "--prompt", str(run_dir / "prompt.wav"), "--state", str(state), "--out", str(run_dir / "c.wav")]) == 2


def test_a_prompt_from_standard_input_and_several_seeds(run_dir, monkeypatch):
    with open(run_dir / "prompt.wav", "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read())))
    out = run_dir / "many.wav"
    assert main(["generate", str(run_dir / "run"), "--prompt", "-", "--seconds", "0.4", "--seeds", "1", "2", "--out", str(out)]) == 0
    a, b = (soundfile.read(run_dir / f"many-{seed}.wav")[0] for seed in (1, 2))
    assert len(a) == len(b) and not np.array_equal(a, b)


def test_what_cannot_be_is_refused(run_dir, capsys):
    command = ["generate", str(run_dir / "run")]
    for wrong, what in ((["--stream", "--out", "x.wav"], "--out FILE"), (["--stream", "--buffer", "9"], "0.04 to 2"),
                        (["--stream", "--seeds", "1", "2"], "one seed"), (["--out", "x.wav", "--seconds", "0"], "--seconds 0"),
                        (["--out", "x.wav", "--state", "s", "--seeds", "1"], "--seeds: a state"),
                        (["--out", "x.wav", "--top-p", "0"], "top_p")):
        assert main([*command, *wrong]) == 2 and what in capsys.readouterr().err


def test_what_it_costs_is_measured_at_marks(run_dir, capsys):
    out = run_dir / "profile.json"
    assert main(["profile-generator", str(run_dir / "run"), "--seconds", "1", "2", "4", "--out", str(out)]) == 0
    found = json.loads(out.read_text())["profiles"][0]
    assert [mark["seconds"] for mark in found["marks"]] == [1, 2, 4] and all(mark["rtf"] > 0 for mark in found["marks"])
    assert abs(found["memory_growth"]) < 0.25 and 0 < found["first"]  # but for the chunk that is open at a mark
    assert "lact" in capsys.readouterr().out
    assert main(["profile-generator", str(run_dir / "run"), "--seconds", "2", "1"]) == 2


def test_histories_are_compared(run_dir, capsys):
    noise_set(run_dir / "data", "test", 6, seconds=1.0)
    out = run_dir / "history.json"
    common = ["history", str(run_dir / "run"), "--sets", "test", "--data-dir", str(run_dir / "data"), "--history", "1", "--window", "0.5"]
    assert main([*common, "--target", "2", "--beyond", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["speakers"] == 2 and found["places"] == [0, 0.5, 1.0, 1.5] and set(found["losses"]) == {"own", "other", "none"}
    own, other = (found["losses"][name] for name in ("own", "other"))
    mean, low, high = found["differences"]["other"]
    assert mean == pytest.approx(sum(own[2:]) / 2 - sum(other[2:]) / 2, abs=1e-6) and low <= mean <= high
    assert "own less other" in capsys.readouterr().out
    assert main([*common, "--target", "60", "--beyond", "1"]) == 2
