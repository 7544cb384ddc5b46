import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from voxkit.cli import align as command

PIECES = ["<b>", "<s>", "</s>", "<unk>", "▁HEAL", "▁ME"]


class Model:
    seconds_per_frame = 0.04

    def encode(self, batch):
        return batch.audio, batch.lengths // 640

    def ctc_log_probs(self, states):
        x = torch.full((1, states.shape[1] // 640, 6), -9.0)
        x[..., 0] = 0
        x[0, 5, 4] = x[0, 12, 5] = 9
        return x.log_softmax(-1)


def load(checkpoint, device):
    tokenizer = SimpleNamespace(pieces=PIECES, encode=lambda text: [PIECES.index("▁" + w) for w in text.split()])
    return SimpleNamespace(model=Model(), tokenizer=tokenizer)


def call(*argv):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["align", "model", *map(str, argv)]), load)


def test_command(tmp_path, capsys):
    pytest.importorskip("voxkit.audio.io")
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    assert call("--audio", tmp_path / "a.wav", "--text", "heal, me!", "--normalise", "librispeech") == 0
    record = json.loads(capsys.readouterr().out)
    assert [(w["word"], w["start"], w["end"]) for w in record["words"]] == [("HEAL", 0.2, 0.24), ("ME", 0.48, 0.52)]
    assert record["audio_duration"] == 1.0
    (tmp_path / "text").write_text("a\tHEAL ME\n")
    call("--audio", tmp_path / "a.wav", "--text", tmp_path / "text", "--out", tmp_path / "a.TextGrid")
    assert "HEAL" in (tmp_path / "a.TextGrid").read_text()
    with pytest.raises(ValueError, match="none of 1"):
        call("--audio", tmp_path / "a.wav", "--text", "ME " * 40)
    with pytest.raises(ValueError, match="either"):
        call("--text", "x")
