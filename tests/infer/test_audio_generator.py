"""Generating: streamed = offline sample by sample, resumed = unbroken, batch = alone; what sampling may draw."""

import pytest
import torch

from voxkit.codecs.mel_codec import MelCodec, MelCodecConfig
from voxkit.codecs.quantizer import QuantizerConfig
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.decoders.depth import DepthConfig
from voxkit.encoders.lact import LaCTConfig
from voxkit.infer.audio_generator import AudioGenerator, GeneratorState
from voxkit.infer.code_sampling import SamplingOptions, draw, filtered, uniform
from voxkit.models.lact_audio import LaCTAudioConfig, LaCTAudioGenerator
from voxkit.nn.lact import FastConfig

OPTIONS = SamplingOptions(temperature=0.9, top_k=8, top_p=0.95, repetition_window=6)


def generator(backbone: str = "lact", causal: bool = True) -> AudioGenerator:
    torch.manual_seed(0)
    codec = MelCodec(MelCodecConfig(dim=16, encoder_layers=1, decoder_layers=1, head_layers=1, mels=16, causal=causal,
                                    lookahead=1 if causal else 0, quantizer=QuantizerConfig(codebooks=2, size=12))).eval()
    lact = LaCTConfig(dim=32, heads=2, ffn=48, layers=2, dropout=0.0, left=8, fast=FastConfig(heads=2, chunk=8, gate=0.5))
    model = LaCTAudioGenerator(LaCTAudioConfig(vocab_size=12, codebooks=2, backbone=backbone, lact=lact, segment=16,
                                               depth=DepthConfig(dim=16, heads=2, ffn=16, layers=1)))
    with torch.no_grad():
        model.depth.output.mul_(4)  # so that what was said matters to what is drawn
    return AudioGenerator(model, AudioTokenizer(codec), fingerprint="abc")


def prompt(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(12, (frames, 2), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backbone", ["lact", "full", "window"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_streamed_is_offline(backbone, size):
    made = generator(backbone)
    whole, _ = made.audio(made.start(prompt(11), [3]), 70, OPTIONS)
    parts = [audio for audio, _ in made.stream(made.start(prompt(11), [3]), 70, size, OPTIONS)]
    assert len(parts) == -(-70 // size) and whole.shape[0] == 1 and float(whole.abs().max()) > 1e-4
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    # what the prompt's last frames still owe (one frame of lookahead, 15 ms of synthesis) is at the beginning
    assert whole.shape[1] == 70 * 320 + 320 + 240


@pytest.mark.parametrize("backbone", ["lact", "full"])
def test_a_state_that_was_kept_goes_on(backbone, tmp_path):
    made = generator(backbone)
    whole, _ = made.codes(made.start(prompt(5), [3, 4]), 40, OPTIONS)
    first, state = made.codes(made.start(prompt(5), [3, 4]), 17, OPTIONS)
    state.save(tmp_path / "state.safetensors", made.fingerprint)
    taken = GeneratorState.load(tmp_path / "state.safetensors", made.fingerprint)
    rest, _ = made.codes(taken, 23, OPTIONS)
    assert torch.equal(torch.cat((first, rest), 1), whole) and taken.frame == 22 and taken.bytes == state.bytes
    with pytest.raises(ValueError, match="another generator"):
        GeneratorState.load(tmp_path / "state.safetensors", "def")


def test_a_batch_is_its_sequences_alone():
    made = generator()
    together, _ = made.codes(made.start(torch.stack([prompt(9, 1), prompt(9, 2)]), [7, 8]), 40, OPTIONS)
    for i in range(2):
        alone, _ = made.codes(made.start(prompt(9, i + 1), [7 + i]), 40, OPTIONS)
        assert torch.equal(alone[0], together[i])
    other, _ = made.codes(made.start(prompt(9, 1), [9]), 40, OPTIONS)
    assert not torch.equal(other[0], together[0])


def test_greedy_is_the_likeliest_of_the_teacher_forced():
    made = generator()
    codes, _ = made.codes(made.start(prompt(6)), 30, SamplingOptions(temperature=0))
    everything = torch.cat((prompt(6)[None], codes), 1)
    with torch.no_grad():
        logits, _ = made.model.advance(everything, made.model.init_state(1))
    assert torch.equal(logits[:, 6:].argmax(-1), codes)


def test_memory_does_not_grow_where_it_should_not():
    for backbone, grows in (("lact", False), ("window", False), ("full", True)):
        made = generator(backbone)
        _, early = made.codes(made.start(), 32, OPTIONS)
        _, late = made.codes(early, 64, OPTIONS)
        assert (late.bytes > 2 * early.bytes) == grows and (late.bytes == early.bytes) != grows


def test_a_codec_that_is_not_causal_does_not_stream():
    made = generator(causal=False)
    with pytest.raises(ValueError, match="a codec that is not causal does not stream"):
        next(made.stream(made.start(), 10))
    audio, _ = made.audio(made.start(), 10)
    assert audio.shape == (1, 3200)
    with pytest.raises(ValueError, match="shape"):
        made.start(prompt(4)[:, :1])


def test_what_may_be_drawn():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 5.0, 0.0]])
    assert (filtered(logits, SamplingOptions(top_k=2)).isfinite().sum(1) <= torch.tensor([2, 4])).all()
    p = logits.softmax(-1)
    kept = filtered(logits, SamplingOptions(top_p=float(p[0, :2].sum()) - 1e-6))
    assert kept[0].isfinite().tolist() == [True, True, False, False]
    assert kept[1].isfinite().tolist() == [False, False, True, False]  # the likeliest alone has enough
    recent = torch.tensor([[0, 0], [2, 3]])
    punished = SamplingOptions(temperature=0, repetition_window=2, repetition_penalty=9.0)
    assert draw(logits, torch.zeros(2), punished, recent).tolist() == [1, 0]
    numbers = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = draw(logits[:1].expand(20_000, -1), numbers, SamplingOptions(temperature=2.0))
    torch.testing.assert_close(drawn.bincount(minlength=4) / 20_000, (logits[0] / 2).softmax(-1), atol=0.01, rtol=0)
    assert draw(logits, torch.ones(2) - 1e-9, SamplingOptions(top_k=1)).tolist() == [0, 2]
    for wrong in ({"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SamplingOptions(**wrong)


def test_numbers_belong_to_seed_frame_and_book():
    a, b = uniform([1, 2], 5, 3), uniform([2], 5, 8)
    assert torch.equal(a[1], b[0, :3]) and not torch.equal(a[0], a[1]) and not torch.equal(uniform([1], 6, 3), a[:1])
