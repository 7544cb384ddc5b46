"""The codec in training: two steps, each with its own parameters; books that learn once a step; losses that know no padding."""

from pathlib import Path

import pytest
import torch

from voxkit.batch import Batch, Padded
from voxkit.codecs.mel_codec import MelCodecConfig
from voxkit.codecs.quantizer import QuantizerConfig
from voxkit.models.codec import CodecConfig, CodecLossConfig, CodecModel, spectral_distance
from voxkit.run_config import load_setup


def model(part: str = "mel", **more) -> CodecModel:
    torch.manual_seed(0)
    sizes = {"dim": 16, "encoder_layers": 1, "decoder_layers": 1, "head_layers": 1, "mels": 16}
    return CodecModel(CodecConfig(MelCodecConfig(quantizer=QuantizerConfig(codebooks=2, size=8, dropout=0.0), **sizes), part, **more))


def batch(*lengths: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch([str(n) for n in lengths], audio=Padded.of([0.1 * torch.randn(n, generator=draw) for n in lengths]),
                 seconds=sum(lengths) / 16_000)


@pytest.mark.parametrize("part", ["mel", "head"])
def test_each_step_trains_its_own_part(part):
    made = model(part).train()
    before = {name: value.clone() for name, value in made.codec.named_parameters()}
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], 1e-2)
    losses = []
    for step in range(12):
        made.set_step(step)
        optimizer.zero_grad()
        loss = made.loss(batch(8_000, 5_000)).total
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    moved = {name for name, value in made.codec.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("head.") == (part == "head") for name in moved)
    assert losses[-1] < losses[1]
    assert bool(made.codec.quantizer.started) == (part == "mel")


def test_books_learn_once_a_step_and_not_from_a_dropped_one():
    made, quantizer = model().train(), None
    quantizer = made.codec.quantizer
    made.set_step(0)
    made.loss(batch(8_000))
    noted = float(quantizer.noted_usage.sum())
    made.set_step(0)  # the step was dropped: it is run again
    assert noted == 50 and not quantizer.noted_usage.any()
    made.loss(batch(8_000))
    before = quantizer.usage.clone()
    made.set_step(1)
    assert not torch.equal(quantizer.usage, before) and not quantizer.noted_usage[0].any()


def test_books_begin_on_as_much_audio_as_is_asked_for():
    made, given = model(start_minutes=1 / 60), []

    def batches():
        for _ in range(10):
            given.append(1)
            yield batch(8_000)

    made.begin_on_data(batches())
    assert len(given) == 2 and bool(made.codec.quantizer.started)
    made.begin_on_data(batches())
    assert len(given) == 2  # they have begun


def test_a_head_needs_books_that_have_begun():
    made = model("head")
    with pytest.raises(ValueError, match="part: head needs init=RUN of part mel"):
        made.begin_on_data(iter([batch(8_000)]))
    begun = model()
    begun.begin_on_data(iter([batch(8_000)]))
    made.load_state_dict(begun.state_dict())
    made.begin_on_data(iter([]))
    assert torch.equal(made.codec.quantizer.books, begun.codec.quantizer.books)


def test_losses_of_spectra_know_no_padding_and_see_differences():
    x = 0.1 * torch.randn(2, 4_000, generator=torch.Generator().manual_seed(0))
    y = x + 0.05
    y[1, 2_000:] = x[1, 2_000:] = 0
    whole = spectral_distance(x, y, 256)
    alone = spectral_distance(x[:1], y[:1], 256) + spectral_distance(x[1:, :2_000], y[1:, :2_000], 256)
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-3)
    assert abs(float(spectral_distance(x, x, 256))) < 1e-2 < float(whole)


@pytest.mark.parametrize("wave", [0.0, 1.0])
def test_the_head_loss_is_that_of_its_items(wave):
    made = model("head", loss=CodecLossConfig(wave=wave)).eval()
    both = batch(8_000, 4_800)
    with torch.no_grad():
        whole = made.loss(both)
        alone = [made.loss(both.take(slice(i, i + 1))) for i in range(2)]
    mean = sum(float(one.total * one.weight) for one in alone) / float(whole.weight)
    assert float(whole.total) == pytest.approx(mean, rel=1e-4) and ("wave" in whole.parts) == (wave > 0)


def test_a_codec_refuses_what_is_no_audio():
    with pytest.raises(ValueError, match="audio"):
        model().loss(Batch(["a"], tokens=Padded.of([torch.tensor([1])])))


@pytest.mark.parametrize("recipe", ["librispeech/codec", "librispeech/lact_audio", "toy/lact_audio"])
def test_configurations_of_the_recipes_build(repository: Path, recipe: str):
    """From shapes alone; those of the baselines have as many parameters as what they stand beside."""
    sizes = {}
    for path in sorted((repository / "egs" / recipe / "conf").glob("*.yaml")):
        setup = load_setup(path)
        with torch.device("meta"):
            if setup.config.system == "codec":
                made = CodecModel(setup.model)
            else:
                setup.model.vocab_size, setup.model.codebooks = setup.model.vocab_size or 25, setup.model.codebooks or 2
                made = setup.build_model(setup.model.vocab_size)
        sizes[path.stem] = sum(p.numel() for p in made.parameters())
    if recipe == "librispeech/lact_audio":
        for name in ("baseline_full_attention", "baseline_window", "updates_off"):
            assert abs(sizes[name] / sizes["mini"] - 1) < 0.01
        assert 28e6 < sizes["base"] < 34e6 and 1.2e9 < sizes["large_1b"] < 1.5e9 and 2.8e9 < sizes["large_3b"] < 3.3e9
