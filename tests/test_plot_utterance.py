"""Pictures of one utterance: what is drawn is what the model saw."""

import numpy as np
import pytest
import soundfile
import torch

from voxkit import config as configuration
from voxkit.checkpoint.format import write_checkpoint
from voxkit.cli.main import main
from voxkit.data.corpora.toyseq import ToySeqConfig, prepare_toyseq
from voxkit.hypothesis import Word
from voxkit.infer.inspection import inspect
from voxkit.infer.recognizer import Recognizer, read_input
from voxkit.plot import plot_alignment, plot_attention
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_characters

pytest.importorskip("matplotlib", reason="pip install 'voxkit[plot]'")
PNG = b"\x89PNG\r\n"
MODELS = {
    "paraformer": {"front_end": {"kind": "stacked", "fbank_bins": 40, "stack": 4, "stride": 4, "subsampling_dim": 16},
                   "encoder": {"kind": "conformer", "dim": 16, "heads": 2, "ffn": 24, "layers": 1},
                   "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 2}},
    "voxformer": {"front_end": {"kind": "fbank", "fbank_bins": 40, "subsampling_dim": 96}, "encoder": {"preset": "toy"},
                  "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 2}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of a few utterances and an untrained checkpoint of each system."""
    folder = tmp_path_factory.mktemp("plots")
    prepare_toyseq(folder / "data", ToySeqConfig(num_train=2, num_dev=1, num_test=1))
    soundfile.write(folder / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    tokenizer = train_characters(["bado ki rulame", "sosoko"], folder / "tokens")
    for system, model in MODELS.items():
        torch.manual_seed(0)
        setup = make_setup(configuration.OmegaConf.create({"system": system, "model": model}))
        made = setup.build_model(tokenizer.size).eval()

        def extra(directory, setup=setup):
            configuration.save(setup.as_mapping(), directory / "config.yaml")
            tokenizer.save(directory / "tokenizer.model")

        write_checkpoint(folder / system / "checkpoints", made, {"step": 1, "tokenizer": tokenizer.fingerprint()}, save_extra=extra)
    return folder


@pytest.mark.parametrize("system", MODELS)
@pytest.mark.parametrize("what", ["attention", "alignment"])
def test_commands_draw(what, system, folder, tmp_path, capsys):
    features = str(folder / "data/features/test/test-00000.npy")
    more = ["--cuts", str(folder / "data/cuts_test.jsonl.gz")] if what == "alignment" else ["--layer", "0"]
    for source, options in ((features, more), (str(folder / "noise.wav"), [])):
        out = tmp_path / f"{len(source)}.png"
        assert main(["plot", what, str(folder / system), source, "--out", str(out), *options]) == 0, capsys.readouterr().err
        assert out.read_bytes().startswith(PNG)


@pytest.mark.parametrize("system", MODELS)
def test_what_is_looked_at(system, folder):
    recognizer = Recognizer.load(folder / system)
    batch = read_input(folder / "data/features/test/test-00000.npy")
    seen = inspect(recognizer, batch)
    assert seen.text == recognizer.recognize(batch)[0].text
    assert seen.features.shape == (int(batch.features.lengths[0]), 40)
    layers, heads, tokens, frames = seen.attention.shape
    assert (layers, heads, tokens, frames) == (2, 2, len(seen.tokens), len(seen.curve))
    np.testing.assert_allclose(seen.attention.sum(-1), 1.0, rtol=1e-4)
    assert seen.curve.min() >= 0
    if system == "paraformer":
        assert len(seen.fires) == len(seen.tokens) and seen.fires == sorted(seen.fires)
        assert abs(seen.curve.sum() - len(seen.tokens)) <= 0.5 + 1e-4


def test_audio_has_its_filterbank_drawn(folder):
    seen = inspect(Recognizer.load(folder / "voxformer"), read_input(folder / "noise.wav"))
    assert seen.label == "P(no blank)" and seen.features.shape[1] == 80 and not seen.fires


def test_mistakes_are_named(folder, tmp_path, capsys):
    features = str(folder / "data/features/test/test-00000.npy")
    assert main(["plot", "attention", str(folder / "paraformer"), features, "--layer", "7"]) == 2
    assert "--layer 7: the decoder has 2 layers" in capsys.readouterr().err
    assert main(["plot", "alignment", str(folder / "paraformer"), features, "--cuts", str(folder / "data/cuts_dev.jsonl.gz")]) == 2
    assert "no cut test-00000" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no token was recognized"):
        plot_attention(np.zeros((1, 2, 0, 9)), [], 0.04, tmp_path / "a.png")
    with pytest.raises(ValueError, match="is not .layers, heads, 3 tokens, frames"):
        plot_attention(np.zeros((1, 2, 4, 9)), ["a", "b", "c"], 0.04, tmp_path / "a.png")


def test_words_are_drawn_where_they_are(tmp_path, monkeypatch):
    import voxkit.plot

    boxes = []

    def spy(figure, out):
        boxes.extend((bar.get_x(), bar.get_width(), bar.get_y() + 0.4) for bar in figure.axes[2].patches)
        return out

    monkeypatch.setattr(voxkit.plot, "_save", spy)
    plot_alignment(np.zeros((100, 8)), np.zeros(25), [0.5], [Word("a", 0.1, 0.4, 1.0)], 0.04, tmp_path / "x.png",
                   true=[Word("a", 0.15, 0.45, 1.0)])
    assert [tuple(round(v, 6) for v in box) for box in boxes] == [(0.1, 0.3, 0.0), (0.15, 0.3, 1.0)]
