"""A codec scored beside the baseline, from the command line."""

import json

import pytest
import torch

from tests.noise import noise_set
from voxkit.cli.main import main
from voxkit.codecs.mel_codec import HEADS, MelCodec, MelCodecConfig
from voxkit.codecs.quantizer import QuantizerConfig
from voxkit.codecs.tokenizer import AudioTokenizer


def test_scored_beside_the_baseline(tmp_path, capsys):
    for name, count in (("train", 4), ("test", 4)):
        noise_set(tmp_path / "data", name, count, seconds=1.0)
    torch.manual_seed(0)
    sizes = {"dim": 8, "encoder_layers": 1, "decoder_layers": 1, "head_layers": 1}
    AudioTokenizer(MelCodec(MelCodecConfig(quantizer=QuantizerConfig(codebooks=2, size=16), **sizes)).eval()).save(tmp_path / "codec")
    out = tmp_path / "scores.json"
    assert main(["score-codec", str(tmp_path / "codec"), "--sets", "test", "--data-dir", str(tmp_path / "data"), "--utterances", "1",
                 "--measures", "mel", "si_sdr", "--baseline", "train", "--out", str(out), "--audio", str(tmp_path / "heard")]) == 0
    found = json.loads(out.read_text())
    assert list(found) == ["job", *(f"codec, {head}" for head in HEADS), "k-means RVQ, Griffin-Lim", "no quantizer, Griffin-Lim"]
    baseline, bare = found["k-means RVQ, Griffin-Lim"], found["no quantizer, Griffin-Lim"]
    assert len(baseline["values"]) == 2 and baseline["kbit_per_second"] == pytest.approx(50 * 2 * 4 / 1000)
    assert baseline["kbit_per_second_by_entropy"] <= baseline["kbit_per_second"] and len(baseline["perplexities"]) == 2
    # the books beside it are fitted, those of the codec are random; without books nothing is lost but phase
    assert bare["means"]["mel"][0] < baseline["means"]["mel"][0] < found["codec, griffin_lim"]["means"]["mel"][0]
    assert len(list((tmp_path / "heard").rglob("*.wav"))) == 10
    said = capsys.readouterr().out
    assert "k-means RVQ, Griffin-Lim" in said and "2 speakers" in said
