"""MelCodec: streamed = offline, padded = alone, first books decode, the baseline is where it begins."""

import pytest
import torch

from voxkit.batch import Padded
from voxkit.codecs.baseline import KMeansCodec
from voxkit.codecs.mel_codec import HEADS, MelCodec, MelCodecConfig
from voxkit.codecs.quantizer import QuantizerConfig
from voxkit.codecs.spectrum import Spectrum, griffin_lim
from voxkit.config import ConfigError, OmegaConf, structure

SIZES = {"dim": 32, "encoder_layers": 2, "decoder_layers": 2, "head_layers": 2, "mels": 20}
BOOKS = {"codebooks": 3, "size": 16}


def codec(**more) -> MelCodec:
    """A small one whose corrections are not 0."""
    torch.manual_seed(0)
    made = MelCodec(MelCodecConfig(**{**SIZES, "quantizer": QuantizerConfig(**BOOKS), **more})).eval()
    for layer in (made.project, made.decoder.mel):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return made


def speechlike(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(samples, generator=generator) * (1 + torch.sin(torch.arange(samples) / 900))


@pytest.mark.parametrize(("stack", "ahead"), [(2, 0), (2, 2), (4, 1)])
@pytest.mark.parametrize("frames", [1, 7, 64])
def test_streamed_is_offline(stack, ahead, frames):
    made, x = codec(causal=True, stack=stack, lookahead=ahead), speechlike(21_111)
    hop = made.hop
    offline = made.encode(Padded.of([x]))
    assert int(offline.lengths[0]) == -(-21_111 // hop) and made.frame_rate == 16_000 / hop
    state, parts = made.init_encoder(), []
    for at in range(0, len(x), frames * hop):
        codes, state = made.stream_encode(x[None, at:at + frames * hop], state, final=at + frames * hop >= len(x))
        parts.append(codes)
    assert torch.equal(torch.cat(parts, 1), offline.values)
    whole, state, parts = made.decode(offline), made.init_decoder(), []
    for at in range(0, offline.values.shape[1], frames):
        audio, state = made.stream_decode(offline.values[:, at:at + frames], state, final=at + frames >= offline.values.shape[1])
        parts.append(audio)
    streamed = torch.cat(parts, 1)
    assert streamed.shape == whole.values.shape and float(whole.values.abs().max()) > 0.01
    torch.testing.assert_close(streamed, whole.values, atol=1e-4, rtol=0)


def test_a_stream_takes_any_number_of_samples():
    made, x = codec(causal=True), speechlike(5_000)
    state, parts, at = made.init_encoder(), [], 0
    for size in (1, 99, 640, 3, 2_000, 0, 2_257):
        codes, state = made.stream_encode(x[None, at:at + size], state, final=at + size == len(x))
        parts.append(codes)
        at += size
    assert torch.equal(torch.cat(parts, 1), made.encode(Padded.of([x])).values)
    with pytest.raises(ValueError, match="causal"):
        codec().init_decoder()


@pytest.mark.parametrize("how", [{"causal": False}, {"causal": True}, {"causal": True, "lookahead": 2}])
@pytest.mark.parametrize("head", HEADS)
def test_padding_never_matters(how, head):
    made = codec(**how)
    items = [speechlike(n, n) for n in (8_000, 3_210, 1_600)]
    codes = made.encode(Padded.of(items))
    audio = made.decode(codes, head)
    for i, item in enumerate(items):
        alone = made.encode(Padded.of([item]))
        frames = int(alone.lengths[0])
        assert frames == int(codes.lengths[i]) and torch.equal(alone.values[0], codes.values[i, :frames])
        torch.testing.assert_close(made.decode(alone, head).values[0], audio.values[i, :frames * made.hop], atol=1e-5, rtol=1e-4)
        assert not audio.values[i, frames * made.hop:].any()


def test_a_causal_codec_hears_no_future():
    """What comes later than a frame and 15 ms changes no code; what a later frame says changes nothing before 15 ms ahead of it."""
    made, x = codec(causal=True), speechlike(9_600)
    other = torch.cat((x[:6_400 + 240], speechlike(2_960, 5)))
    a, b = made.encode(Padded.of([x])), made.encode(Padded.of([other]))
    assert torch.equal(a.values[:, :20], b.values[:, :20]) and not torch.equal(a.values[:, 20:], b.values[:, 20:])
    heard = [made.decode(Padded(codes, a.lengths)).values[0] for codes in (a.values, torch.cat((a.values[:, :20], b.values[:, 20:]), 1))]
    torch.testing.assert_close(heard[0][:6_400 - 240], heard[1][:6_400 - 240])


def test_the_first_books_decode():
    made = codec()
    codes = made.encode(Padded.of([speechlike(4_000)]))
    heard = [made.decode(Padded(codes.values[..., :q], codes.lengths)).values for q in (1, 2, 3)]
    assert not torch.equal(heard[0], heard[1]) and not torch.equal(heard[1], heard[2])
    with pytest.raises(ValueError, match="1 to 3 books"):
        made.decode(Padded(torch.zeros(1, 5, 4, dtype=torch.long), torch.tensor([5])))
    with pytest.raises(ValueError, match="0 to 15"):
        made.decode(Padded(codes.values + 16, codes.lengths))
    with pytest.raises(ValueError, match="istft"):
        made.decode(codes, "vocos")


@pytest.mark.parametrize("quantizer", [{"kind": "finite_scalar", "codebooks": 2, "levels": [4, 4, 3]}, {"codebooks": 1, "size": 32}])
def test_other_quantizers(quantizer):
    made = codec(quantizer=QuantizerConfig(**quantizer))
    codes = made.encode(Padded.of([speechlike(4_000)]))
    assert codes.values.shape == (1, 13, made.codebooks) and int(codes.values.max()) < made.size
    assert made.decode(codes).values.isfinite().all()


def test_a_fresh_codec_is_the_baseline():
    """Books by k-means on frames, corrections of 0: the same codes and the same mel as the codec that nothing trains."""
    x = Padded.of([speechlike(32_000)])
    baseline = KMeansCodec(codebooks=3, size=16).fit(x)
    fresh = MelCodec(MelCodecConfig(quantizer=QuantizerConfig(codebooks=3, size=16))).eval()
    fresh.quantizer.books.copy_((baseline.quantizer.books + 5 * torch.tensor([1, 0, 0])[:, None, None]) / 2.5)
    codes = baseline.encode(x)
    assert float((fresh.encode(x).values == codes.values).float().mean()) > 0.99
    torch.testing.assert_close(fresh.decode_mel(fresh.quantizer.lookup(codes.values), codes.lengths)[1].unflatten(1, (-1, 2)).flatten(2),
                               baseline.quantizer.lookup(codes.values), atol=1e-4, rtol=1e-4)


def test_spectra_come_back_and_griffin_lim_finds_phases():
    space = Spectrum()
    audio = speechlike(16_000)[None] * torch.sin(torch.arange(16_000) * 0.2)
    lengths = torch.tensor([100])
    torch.testing.assert_close(space.synthesize(space.spectrum(audio)), audio, atol=1e-5, rtol=0)
    wanted = space.spectrum(audio).abs()

    def distance(iterations: int) -> float:
        return float((space.spectrum(griffin_lim(space, wanted, lengths, iterations)).abs() - wanted).norm() / wanted.norm())

    assert distance(32) < 0.25 * distance(0)


def test_configurations_are_checked():
    with pytest.raises(ConfigError) as error:
        structure(MelCodecConfig, OmegaConf.create({"kernel": 4, "head": "vocos", "quantizer": {"kind": "none", "restart": 1.0}}), "codec")
    for name in ("kernel", "head", "kind", "restart"):
        assert name in str(error.value)
