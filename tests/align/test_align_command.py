import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from tests.text.vocabularies import Pieces
from voxkit.batch import Padded
from voxkit.cli import align as command
from voxkit.experiments import align as experiment
from voxkit.models.contract import Encoded
from voxkit.search.heads import Heads

PIECES = Pieces(["<b>", "<s>", "</s>", "<unk>", "▁HEAL", "▁ME"])


class Model:
    seconds_per_frame = 0.04

    def encode(self, batch):
        samples = batch.audio if batch.audio is not None else Padded(batch.features.values.repeat(1, 1, 160).flatten(1),
                                                                     batch.features.lengths * 160)
        return Encoded(samples.values, samples.lengths // 640, samples.lengths / 16000)

    @property
    def heads(self):
        return Heads(ctc=self.ctc_log_probs)

    def ctc_log_probs(self, states):
        x = torch.full((1, states.shape[1] // 640, 6), -9.0)
        x[..., 0] = 0
        x[0, 5, 4] = x[0, 12, 5] = 9
        return x.log_softmax(-1)


def load(checkpoint, device):
    return SimpleNamespace(model=Model(), vocabulary=PIECES)


def call(*argv):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["align", "model", *map(str, argv)]), load)


def test_command(tmp_path, capsys):
    pytest.importorskip("voxkit.audio.io")
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    assert call("--audio", tmp_path / "a.wav", "--text", "heal, me!", "--normalize", "librispeech") == 0
    record = json.loads(capsys.readouterr().out)
    assert [(w["word"], w["start"], w["end"]) for w in record["words"]] == [("HEAL", 0.2, 0.24), ("ME", 0.48, 0.52)]
    assert record["audio_duration"] == 1.0
    (tmp_path / "text").write_text("a\tHEAL ME\n")
    call("--audio", tmp_path / "a.wav", "--text", tmp_path / "text", "--out", tmp_path / "a.TextGrid")
    assert "HEAL" in (tmp_path / "a.TextGrid").read_text()
    with pytest.raises(ValueError, match="none of 1"):
        call("--audio", tmp_path / "a.wav", "--text", "ME " * 40)
    with pytest.raises(ValueError, match="none of 1"):
        call("--audio", tmp_path / "a.wav", "--text", "ME " * 400)  # more than the name of a file may have
    with pytest.raises(ValueError, match="either"):
        call("--text", "x")


def test_features(tmp_path, capsys):
    """In a .npy file, and in cuts without audio."""
    lhotse = pytest.importorskip("lhotse")
    np.save(tmp_path / "u1.npy", np.zeros((100, 1), "float32"))
    expected = [("HEAL", 0.2, 0.24), ("ME", 0.48, 0.52)]
    assert call("--audio", tmp_path / "u1.npy", "--text", "HEAL ME") == 0
    record = json.loads(capsys.readouterr().out)
    assert [(w["word"], w["start"], w["end"]) for w in record["words"]] == expected and record["audio_duration"] == 1.0
    features = lhotse.Features(type="x", num_frames=100, num_features=1, frame_shift=0.01, sampling_rate=16000, start=0.0, duration=1.0,
                               storage_type="numpy_files", storage_path=".", storage_key="u1.npy", recording_id="u1", channels=0)
    cut = lhotse.MonoCut(id="u1", start=0.0, duration=1.0, channel=0, features=features,
                         supervisions=[lhotse.SupervisionSegment("u1", "u1", 0.0, 1.0, text="HEAL ME")])
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts_test.jsonl.gz")
    assert call("--cuts", tmp_path / "cuts_test.jsonl.gz", "--out", tmp_path / "out.ctm") == 0
    assert (tmp_path / "out.ctm").read_text().count("u1") == 2
    assert call("--cuts", tmp_path / "cuts_test.jsonl.gz", "--out-cuts", tmp_path / "timed.jsonl.gz") == 0
    timed = next(iter(lhotse.CutSet.from_file(tmp_path / "timed.jsonl.gz"))).supervisions[0].alignment["word"]
    assert [(w.symbol, w.start, w.end) for w in timed] == expected


def test_what_cannot_be_aligned_says_why(tmp_path, capsys):
    np.save(tmp_path / "u1.npy", np.zeros((100, 1), "float32"))
    lhotse = pytest.importorskip("lhotse")
    cut = lhotse.MonoCut(id="u1", start=0.0, duration=1.0, channel=0,
                         supervisions=[lhotse.SupervisionSegment("u1", "u1", 0.0, 1.0, text="HEAL ME")])
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts_test.jsonl.gz")
    with pytest.raises(ValueError, match="cut u1 has neither an audio file nor features"):
        call("--cuts", tmp_path / "cuts_test.jsonl.gz")
    with pytest.raises(ValueError, match="u1.npy: features, where attention and Whisper need audio; use --method ctc"):
        experiment.Source(str(tmp_path / "u1.npy")).wave()


def test_attention_of_a_parallel_decoder_is_refused():
    from voxkit.infer.attention_times import AttentionAligner

    with pytest.raises(ValueError, match="needs an attention decoder, .* and this model has none; use --method ctc"):
        AttentionAligner(SimpleNamespace(model=SimpleNamespace(heads=Heads(parallel=object()))))


@pytest.mark.parametrize("name", ["exp/main", "exp/20260101_000000_main", "exp/20260101_000000_main/checkpoints/step-1"])
def test_a_run_of_ours_is_no_whisper(name, tmp_path, monkeypatch):
    checkpoint = tmp_path / "exp/20260101_000000_main/checkpoints/step-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "meta.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("voxkit.infer.attention_times.WhisperAligner", None)
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    with pytest.raises(ValueError, match=f"{name}: a run or checkpoint of voxkit, and --method whisper takes a Whisper model"):
        command.run(parser.parse_args(["align", name, "--method", "whisper", "--audio", "x.npy", "--text", "HEAL ME"]))


def test_a_text_that_the_tokenizer_cannot_spell_is_refused():
    from voxkit.infer.alignment import align_spans

    with pytest.raises(ValueError, match="the text 'heal 5' holds characters that the tokenizer lacks"):
        align_spans(SimpleNamespace(model=Model(), vocabulary=SimpleNamespace(encode=lambda text: [4, 3], unk=3)), None, "heal 5")
    with pytest.raises(ValueError, match="aligns by a CTC head, and this model has none"):
        align_spans(SimpleNamespace(model=SimpleNamespace(heads=Heads()), vocabulary=PIECES), None, "HEAL")
