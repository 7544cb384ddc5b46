"""An untrained run, as small as can be, with data and a language model."""

import pytest

from tests.noise import MODEL, noise_set
from voxkit.cli.main import main
from voxkit.text.sentencepiece import train_characters

CONFIG = MODEL + """data: {max_duration: 10, num_workers: 0, train: [test], dev: []}
train: {epochs: 1, schedule: {warmup_steps: 2}, precision: fp32}
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A folder with data/, an untrained run exp/tiny and a language model."""
    lhotse = pytest.importorskip("lhotse")
    root = tmp_path_factory.mktemp("decode")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        noise_set(root / "data", "test", 4, words=lambda i: [lhotse.supervision.AlignmentItem(w, 0.1 + 0.3 * n, 0.2)
                                                             for n, w in enumerate(["heal", "me"])])
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


@pytest.fixture
def lm_in_float32(monkeypatch):
    """What `PretrainedLM.load` takes by itself depends on the machine."""
    import torch

    monkeypatch.setattr("voxkit.infer.pretrained_lm.resolve", lambda *_: torch.float32)
