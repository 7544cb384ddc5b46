"""An untrained run, as small as can be, with data and a language model."""

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.text.tokenizer import train_characters

CONFIG = """
name: tiny
model:
  front_end: {kind: fbank, subsampling_dim: 96}
  encoder: {preset: toy}
  decoder: {dim: 16, heads: 2, ffn: 32, layers: 1}
data: {max_duration: 10, num_workers: 0, train: [test], dev: []}
train: {epochs: 1, schedule: {warmup_steps: 2}, precision: fp32}
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A folder with data/, an untrained run exp/tiny and a language model."""
    lhotse = pytest.importorskip("lhotse")
    root = tmp_path_factory.mktemp("decode")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        rng = np.random.default_rng(0)
        (root / "data").mkdir()
        cuts = []
        for i in range(4):
            path = root / "data" / f"u{i}.wav"
            soundfile.write(path, (rng.standard_normal(12000 + 800 * i) * 0.1).astype("float32"), 16000)
            cut = lhotse.Recording.from_file(path, recording_id=f"u{i}").to_cut()
            items = [lhotse.supervision.AlignmentItem(w, 0.1 + 0.3 * n, 0.2) for n, w in enumerate(["heal", "me"])]
            cut.supervisions = [lhotse.SupervisionSegment(f"u{i}", f"u{i}", 0, cut.duration, text="heal me", speaker=f"s{i % 2}",
                                                          alignment={"word": items})]
            cuts.append(cut)
        lhotse.CutSet.from_cuts(cuts).to_file("data/cuts_test.jsonl.gz")
        lhotse.CutSet.from_cuts([]).to_file("data/cuts_empty.jsonl.gz")
        train_characters(["heal me", "ward"], "data/tokens")
        (root / "conf.yaml").write_text(CONFIG)
        (root / "text.txt").write_text("heal me\nward me\n" * 5)
        (root / "phrases.txt").write_text("ward\nheal me\t4.0\n\n")
        assert main(["train", "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens"]) == 0
        assert main(["lm", "train", "--text", "text.txt", "--tokenizer", "data/tokens", "--order", "2", "--out", "lm.arpa"]) == 0
    return root


@pytest.fixture
def here(run, monkeypatch):
    monkeypatch.chdir(run)
    return run
