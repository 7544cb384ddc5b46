"""Speakers' states in use: carried as the model carries them, saved, refused, guarded; the commands that make and take them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from voxkit import config as configuration
from voxkit.batch import Batch, Padded
from voxkit.checkpoint.format import write_checkpoint
from voxkit.cli.main import main
from voxkit.experiments.adapt import AdaptJob, adapt, segments
from voxkit.infer.adaptation import Adaptation
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.session_state import SessionState, from_bytes, seal, to_bytes, unseal
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_characters

MODEL = {"front_end": {"kind": "stacked", "fbank_bins": 40, "stack": 3, "stride": 3, "subsampling_dim": 16, "spec_augment": {"prob": 0.0}},
         "encoder": {"kind": "lact", "dim": 16, "heads": 2, "ffn": 24, "layers": 2, "left": 8, "fast_layers": 1,
                     "fast": {"heads": 2, "chunk": 16, "rate": 0.1, "gate": 0.5}},
         "loss": {"ctc": 1.0, "attention": 0.0}}


def write(folder, seed: int, model: dict = MODEL):
    """An untrained checkpoint."""
    tokenizer = train_characters(["move to the base", "hold now"], folder / "tokens")
    setup = make_setup(configuration.OmegaConf.create({"system": "lact_asr", "model": model}))
    torch.manual_seed(seed)
    made = setup.build_model(tokenizer).eval()

    def extra(directory):
        configuration.save(setup.as_mapping(), directory / "config.yaml")
        tokenizer.save(directory)

    return write_checkpoint(folder / f"run{seed}" / "checkpoints", made, {"step": 1, "tokenizer": tokenizer.fingerprint()},
                            save_extra=extra).path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two checkpoints and a folder of two speakers' files, and both in one recording."""
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "anna").mkdir()
    draw = np.random.default_rng(0)
    parts = [draw.normal(0, 0.1, 12000 + 3000 * n) for n in range(3)]
    for n, part in enumerate(parts):
        soundfile.write(folder / "anna" / f"{n}.wav", part, 16000)
    soundfile.write(folder / "meeting.wav", np.concatenate(parts), 16000)
    lines = (("meeting", 0.75, 0.9, "ben"), ("meeting", 0.0, 0.75, "anna"), ("other", 0.0, 0.75, "carl"))
    (folder / "meeting.rttm").write_text("".join(f"SPEAKER {name} 1 {begin} {seconds} <NA> <NA> {speaker} <NA> <NA>\n"
                                                 for name, begin, seconds, speaker in lines))
    for seed in (0, 1):
        write(folder, seed)
    return folder


@pytest.fixture
def recognizer(folder):
    return Recognizer.load(folder / "run0")


def spoken(*speakers: str) -> Batch:
    random = torch.Generator().manual_seed(1)
    audio = [0.1 * torch.randn(12000 + 1000 * n, generator=random) for n in range(len(speakers))]
    return Batch([str(n) for n in range(len(speakers))], audio=Padded.of(audio), sessions=list(speakers))


def test_states_go_on_as_the_model_carries_them(recognizer):
    adaptation, batch = Adaptation(recognizer, guard=False), spoken("a", "b", "a", "a")
    adaptation.recognize(batch)
    carried = None
    with torch.no_grad():
        for row in (0, 2, 3):
            carried = recognizer.model.encode(batch.take(slice(row, row + 1)), carried).carried
    for a, b in zip(adaptation.state("a").carried, carried):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    assert (adaptation.state("a").utterances, adaptation.state("b").utterances) == (3, 1)
    before = adaptation.state("b").carried
    adaptation.reset("a")
    assert "a" not in adaptation.states and adaptation.state("b").carried is before


def test_recognition_is_in_the_order_of_the_batch_and_the_same_for_the_same_state(recognizer):
    batch = spoken("a", "b", "a")
    first, again = (Adaptation(recognizer, guard=False).recognize(batch) for _ in range(2))
    assert [h.text for h in first] == [h.text for h in again]
    assert [round(h.audio_duration * 16000) for h in first] == batch.audio.lengths.tolist()
    assert first[0].text == recognizer.recognize(batch.take(slice(0, 1)))[0].text, "the first utterance begins from the initial weights"


def test_a_state_comes_back_from_its_file(recognizer, tmp_path):
    adaptation = Adaptation(recognizer)
    adaptation.recognize(spoken("a", "a"))
    adaptation.save("a", tmp_path / "a.safetensors")
    other = Adaptation(recognizer)
    other.load("a", tmp_path / "a.safetensors")
    assert all(torch.equal(x, y) for x, y in zip(other.state("a").carried, adaptation.state("a").carried))
    assert other.state("a").utterances == 2 and abs(other.state("a").seconds - adaptation.state("a").seconds) < 1e-3


def test_other_states_are_refused(recognizer, folder):
    encoder = recognizer.model.encoder
    adaptation = Adaptation(recognizer)
    adaptation.recognize(spoken("a"))
    raw = to_bytes(adaptation.state("a"), encoder)
    with pytest.raises(ValueError, match="learned by another model"):
        from_bytes(raw, Recognizer.load(folder / "run1").model.encoder)
    with pytest.raises(ValueError, match="version 9"):
        from_bytes(raw.replace(b'"version":"1"', b'"version":"9"'), encoder)
    with pytest.raises(ValueError, match="is no speaker's state"):
        from_bytes(raw[:100], encoder)
    state = adaptation.state("a")
    broken = SessionState((state.carried[0] * float("nan"), *state.carried[1:]), 1, 1.0)
    with pytest.raises(ValueError, match="damaged"):
        from_bytes(to_bytes(broken, encoder), encoder)
    with pytest.raises(ValueError, match="no audio was heard"):
        to_bytes(SessionState(), encoder)


def test_what_a_client_keeps_is_sealed():
    sealed = seal(b"state", b"key")
    assert unseal(sealed, b"key") == b"state"
    for changed, key in ((sealed[:-1] + b"x", b"key"), (sealed, b"other")):
        with pytest.raises(ValueError, match="not given out by this service"):
            unseal(changed, key)
    with pytest.raises(ValueError, match="at most 4"):
        unseal(sealed, b"key", limit=4)


def test_the_guard_falls_back_where_a_state_knows_less(recognizer):
    """A state whose weights were turned around agrees with nothing; recognition is then what it is without one."""
    adaptation, batch = Adaptation(recognizer), spoken("a", "a")
    adaptation.recognize(batch)
    good = adaptation.state("a")
    harmful = tuple(-x if n % 9 == 1 else x for n, x in enumerate(good.carried))  # w1
    adaptation.states["a"] = SessionState(harmful)
    again = batch.take(slice(1, 2))
    hypothesis = adaptation.recognize(again)[0]
    assert adaptation.state("a").fallbacks == 1 and adaptation.state("a").carried is harmful
    assert hypothesis.text == recognizer.recognize(again)[0].text
    assert "1 recognized from the initial weights" in adaptation.report()


def test_decay_draws_a_state_back(recognizer):
    adaptation = Adaptation(recognizer)
    adaptation.recognize(spoken("a", "a"))
    encoder, before = recognizer.model.encoder, adaptation.state("a").carried
    adaptation.decay("a", 0.5)
    assert torch.allclose(encoder.change(adaptation.state("a").carried), encoder.change(before) / 2, atol=1e-5)
    adaptation.decay("a", 0.0)
    assert encoder.change(adaptation.state("a").carried).max() < 1e-6
    with pytest.raises(ValueError, match="keep 2"):
        adaptation.decay("a", 2)


def test_commands_make_and_take_a_state(folder, tmp_path, capsys):
    state, later = tmp_path / "anna.safetensors", tmp_path / "later.safetensors"
    assert main(["adapt", str(folder / "run0"), str(folder / "anna"), "--out", str(state)]) == 0
    assert " 3 " in capsys.readouterr().out and state.is_file()
    file = str(folder / "anna" / "0.wav")
    assert main(["transcribe", str(folder / "run0"), file, "--json", "--state", str(state), "--save-state", str(later)]) == 0
    said = json.loads(capsys.readouterr().out)["text"]
    adaptation = Adaptation(Recognizer.load(folder / "run0"))
    adaptation.load("", state)
    assert adaptation.transcribe(file).text == said
    assert main(["transcribe", str(folder / "run1"), file, "--state", str(state)]) == 2
    assert "another model" in capsys.readouterr().err
    adaptation.load("later", later)
    assert adaptation.state("later").utterances == 4


def test_each_speaker_of_a_recording_has_a_state(folder, tmp_path):
    assert segments(str(folder / "meeting.rttm"), "meeting") == [(0.0, 0.75, "anna"), (0.75, 0.9, "ben")]
    done = adapt(AdaptJob(str(folder / "run0"), (str(folder / "meeting.wav"),), str(tmp_path), rttm=str(folder / "meeting.rttm")))
    assert [(d.speaker, d.utterances) for d in done] == [("anna", 1), ("ben", 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.safetensors", "ben.safetensors"]
    with pytest.raises(ValueError, match="no SPEAKER line for party; there are meeting, other"):
        segments(str(folder / "meeting.rttm"), "party")


def test_a_model_that_carries_nothing_is_refused(tmp_path):
    model = {**MODEL, "encoder": {"kind": "transformer", "dim": 16, "heads": 2, "ffn": 24, "layers": 1}}
    with pytest.raises(ValueError, match="carries nothing"):
        Adaptation(Recognizer.load(write(tmp_path, 0, model)))
