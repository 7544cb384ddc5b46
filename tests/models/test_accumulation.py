"""Batches that are accumulated or cut up give the loss and the gradient of one large batch, for every loss there is."""

from __future__ import annotations

import pytest
import torch

from tests.train.toys import tiny_config, tiny_trainer
from voxkit import config as configuration
from voxkit.batch import Batch, Padded
from voxkit.config import structure
from voxkit.encoders.front_end import FbankFrontEnd
from voxkit.models.token_lm import TokenLM, TokenLMConfig
from voxkit.optional import available
from voxkit.run_config import make_setup
from voxkit.train.config import OptimizerConfig, ScheduleConfig

VOCABULARY = 12
LENGTHS = [(61, 9), (40, 1), (75, 4), (52, 7), (33, 2)]  # feature frames and tokens of each utterance
SMALL = {"front_end": {"kind": "fbank", "subsampling_dim": 16}, "dropout": 0.0}
DECODER = {"dim": 16, "heads": 2, "ffn": 32, "layers": 1, "dropout": 0.0}
CTC = {"attention": 0.0, "start_attention": 0.0, "ctc": 1.0, "start_ctc": 1.0}
HALF_WAY = {"after": [1]}
NEEDS_K2 = pytest.mark.skipif(not available("k2"), reason="k2 is not installed (tools/install_k2.sh)")


def voxformer(heads=None, **loss):
    options = {**SMALL, "encoder": {"preset": "toy"}, "decoder": DECODER, "loss": loss}
    return "voxformer", {**options, **({"intermediate_ctc": heads} if heads else {})}


def paraformer(heads=None, glancing=0.0, **loss):
    options = {**SMALL, "encoder": {"kind": "transformer", "dim": 16, "heads": 2, "ffn": 32, "layers": 3, "dropout": 0.0},
               "decoder": DECODER, "loss": loss, "glancing": {"start": glancing, "end": glancing}}
    return "paraformer", {**options, **({"intermediate_ctc": heads} if heads else {})}


LOSSES = {
    "ctc": voxformer(**CTC),
    "attention": voxformer(ctc=0.0, start_ctc=0.0, attention=1.0, start_attention=1.0),
    "hybrid": voxformer(),
    "intermediate": voxformer(HALF_WAY, intermediate=0.3),
    "consistency": voxformer(consistency=0.2),
    "mwer": voxformer(mwer=1.0),
    "ctc by k2": voxformer(**CTC, ctc_by="k2"),
    "transducer": voxformer(transducer=0.5),
    "paraformer": paraformer(),
    "paraformer, smoothed": paraformer(label_smoothing=0.3),
    "paraformer, glancing": paraformer(glancing=0.75),
    "paraformer, intermediate": paraformer(HALF_WAY, intermediate=0.4),
    "paraformer, boundary": paraformer(boundary=0.5),
    "paraformer, mwer": paraformer(mwer=0.7, mwer_samples=3),
    "token_lm": ("token_lm", {"dim": 16, "dropout": 0.0}),
}


def build(name: str):
    """A model whose rows do not look at one another: what a loss is a mean over is all that is left."""
    torch.manual_seed(4)
    system, options = LOSSES[name]
    if system == "token_lm":
        return TokenLM(structure(TokenLMConfig, {**options, "vocab_size": VOCABULARY}))
    model = make_setup(configuration.OmegaConf.create({"system": system, "model": options})).build_model(VOCABULARY)
    for module in model.modules():  # dropout, masks and schedules of the parts are off, and the losses of training are on
        module.train = lambda mode=True, own=module: setattr(own, "training", False) or own
        module.training = False
    model.train = lambda mode=True: setattr(model, "training", mode) or model
    model.training = True
    return model


def utterances() -> Batch:
    torch.manual_seed(2)
    features = Padded.of([torch.randn(frames, 80) for frames, _ in LENGTHS])
    tokens = Padded.of([torch.randint(3, VOCABULARY, (count,)) for _, count in LENGTHS])
    return Batch([f"u{i}" for i in range(len(LENGTHS))], features=features, tokens=tokens, seconds=3.0)


class Batches:
    """One epoch of given batches."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)

    def set_epoch(self, epoch):
        pass

    def state_dict(self):
        return {}


def one_step(folder, name, batches, pieces=1):
    """→ (loss, parts and metrics; gradient) of one optimizer step over all the batches."""
    seen = {}
    schedule = ScheduleConfig(name="constant", warmup_steps=0)
    config = tiny_config(accumulate=len(batches), max_steps=1, clip_grad=0.0, optimizer=OptimizerConfig(lr=1e-9), schedule=schedule)
    trainer = tiny_trainer(folder, config, model=build(name), loader=Batches(batches), validate=None)
    trainer.state.pieces = pieces
    trainer.on_step = lambda step, values: seen.update(values)
    trainer.fit()
    gradient = {key: p.grad.clone() for key, p in trainer.model.named_parameters() if p.grad is not None}
    return seen, gradient


@pytest.fixture
def by_rows(monkeypatch):
    """What is drawn at random depends on the utterance alone."""
    def glance(logits, tokens, lengths, ratio):
        return torch.arange(tokens.shape[1]) < (ratio * lengths[:, None] / 2).floor()

    def multinomial(probabilities, count, replacement):
        return probabilities.topk(count, dim=-1).indices

    monkeypatch.setattr("voxkit.models.paraformer.glance", glance)
    monkeypatch.setattr(torch.Tensor, "multinomial", multinomial)
    forward = FbankFrontEnd.forward

    def views_differ(self, batch, views=1):
        x, lengths = forward(self, batch, views)
        return torch.cat([part * (1 + 0.3 * i) for i, part in enumerate(x.split(batch.size))]), lengths

    monkeypatch.setattr(FbankFrontEnd, "forward", views_differ)


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS_K2 if name == "ctc by k2" else ()) for name in LOSSES])
def test_the_loss_is_that_of_one_large_batch(name, by_rows, tmp_path):
    whole = utterances()
    expected, gradient = one_step(tmp_path / "whole", name, [whole])
    assert expected["grad_norm"] > 0 and (name != "consistency" or expected["consistency"] > 0)
    ways = {"one and four": ([whole.take(slice(0, 1)), whole.take(slice(1, 5))], 1), "pieces": ([whole], 4),
            "each alone": ([whole.take(slice(i, i + 1)) for i in range(5)], 1),
            "both": ([whole.take(slice(0, 3)), whole.take(slice(3, 5))], 2)}
    for way, (batches, pieces) in ways.items():
        found, its = one_step(tmp_path / way, name, batches, pieces)
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-6 if key == "loss" else 1e-5, abs=1e-6), (way, key)
        assert its.keys() == gradient.keys()
        size = torch.cat([g.flatten() for g in gradient.values()]).norm()
        error = torch.cat([(its[key] - gradient[key]).flatten() for key in gradient]).norm()
        assert error < 1e-5 * size, way


def test_what_is_one_batch_is_told_nothing(tmp_path):
    """A step over one batch of one process computes what `loss` alone does, to the last bit."""
    for name in ("hybrid", "paraformer"):
        expected = build(name).loss(utterances())
        found, _ = one_step(tmp_path / name, name, [utterances()])
        assert found["loss"] == float(expected.total)
