"""Audio as people have it; codecs by folder and by run; pretrained ones in the formats of transformers."""

import json

import numpy as np
import pytest
import torch

import voxkit
from voxkit.batch import Padded
from voxkit.codecs.mel_codec import MelCodec, MelCodecConfig
from voxkit.codecs.quantizer import QuantizerConfig
from voxkit.codecs.tokenizer import AudioTokenizer, clean, load_codec


@pytest.fixture(scope="module")
def tokenizer() -> AudioTokenizer:
    torch.manual_seed(0)
    return AudioTokenizer(MelCodec(MelCodecConfig(dim=16, encoder_layers=1, decoder_layers=1, head_layers=1, mels=16,
                                                  quantizer=QuantizerConfig(codebooks=2, size=8))).eval())


def test_any_audio_has_a_defined_result(tokenizer):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    codes = tokenizer.encode(noise, 16_000)
    assert codes.shape == (50, 2) and tokenizer.decode(codes).shape == (16_000,)
    by_mel = tokenizer.codec.decode(Padded.of([codes]), "griffin_lim").values[0]
    assert torch.equal(tokenizer.decode(codes, head="griffin_lim"), by_mel) and not torch.equal(tokenizer.decode(codes), by_mel)
    stereo = np.repeat(np.stack([noise, noise], 1), 3, axis=0)
    assert tokenizer.encode(stereo, 48_000).shape == (50, 2)  # 48 kHz, two channels
    torch.testing.assert_close(clean((noise * 32768).astype(np.int16), 16_000, 16_000), torch.from_numpy(noise), atol=1e-4, rtol=0)
    silence = tokenizer.encode(np.zeros(8_000), 16_000)
    assert silence.shape == (25, 2) and len(silence[2:-2].unique(dim=0)) == 1
    assert tokenizer.decode(silence).isfinite().all()
    assert tokenizer.encode(noise[:1_600], 16_000).shape == (5, 2) and tokenizer.encode(noise[:1], 16_000).shape == (1, 2)
    assert torch.equal(tokenizer.encode(noise * 100, 16_000), tokenizer.encode((noise * 100).clip(-1, 1), 16_000))
    for broken, where in ((np.nan, 7), (np.inf, 9)):
        hurt = noise.copy()
        hurt[where:where + 2] = broken
        with pytest.raises(ValueError, match=f"sample {where} "):
            tokenizer.encode(hurt, 16_000)
    with pytest.raises(ValueError, match="at least one"):
        tokenizer.encode(np.zeros(0), 16_000)


def test_kept_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = voxkit.AudioTokenizer.load(tmp_path)
    codes = torch.randint(8, (9, 2))
    assert again.fingerprint() == tokenizer.fingerprint() and torch.equal(again.decode(codes), tokenizer.decode(codes))
    with torch.no_grad():
        again.codec.quantizer.books += 1e-3
    assert again.fingerprint() != tokenizer.fingerprint()


def tiny(family: str, folder) -> None:
    """A random checkpoint as transformers writes it."""
    import transformers

    torch.manual_seed(0)
    if family == "dac":
        config = transformers.DacConfig(encoder_hidden_size=8, downsampling_ratios=[4, 8], decoder_hidden_size=32, n_codebooks=3,
                                        codebook_size=16, codebook_dim=4, sampling_rate=16_000)
        model = transformers.DacModel(config)
    elif family == "encodec":
        config = transformers.EncodecConfig(target_bandwidths=[4.0, 8.0], sampling_rate=16_000, num_filters=4, upsampling_ratios=[4, 8],
                                            codebook_size=16, hidden_size=8, codebook_dim=8, num_lstm_layers=1, normalize=False)
        model = transformers.EncodecModel(config)
    else:
        config = transformers.MimiConfig(sampling_rate=16_000, hidden_size=16, num_filters=4, upsampling_ratios=[4, 4],
                                         codebook_size=16, codebook_dim=8, vector_quantization_hidden_dimension=8, num_quantizers=3,
                                         num_semantic_quantizers=1, num_hidden_layers=1, intermediate_size=16, num_attention_heads=2,
                                         num_key_value_heads=2, head_dim=8, upsample_groups=16)
        model = transformers.MimiModel(config)
    for module in model.modules():  # books of zeros say nothing
        if family == "encodec" and isinstance(getattr(module, "embed", None), torch.Tensor):
            module.embed.copy_(torch.randn_like(module.embed))
    model.save_pretrained(folder)


@pytest.mark.parametrize("family", ["dac", "encodec", "mimi"])
def test_pretrained_codecs(family, tmp_path):
    pytest.importorskip("transformers")
    tiny(family, tmp_path / family)
    codec = load_codec(tmp_path / family)
    with pytest.raises(ValueError, match="head: 'istft': a PretrainedCodec decodes in one way only"):
        AudioTokenizer(codec).decode(torch.zeros(4, codec.codebooks, dtype=torch.long), head="istft")
    items = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (3_200, 1_999)]
    codes = codec.encode(Padded.of(items))
    assert codes.values.shape[2] == codec.codebooks and int(codes.values.max()) < codec.size == 16
    assert codes.lengths.tolist() == [-(-len(x) // codec.hop) for x in items]
    audio = codec.decode(codes)
    for i, item in enumerate(items):
        alone = codec.encode(Padded.of([item]))
        assert torch.equal(alone.values[0], codes.values[i, :int(codes.lengths[i])])
        torch.testing.assert_close(codec.decode(alone).values[0], audio.values[i, :int(audio.lengths[i])])
    assert audio.values.isfinite().all() and audio.lengths.tolist() == [n * codec.hop for n in codes.lengths.tolist()]
    if codec.codebooks > 1:
        assert codec.decode(Padded(codes.values[..., :1], codes.lengths)).values.shape == audio.values.shape
    AudioTokenizer(codec).save(tmp_path / "kept")
    assert AudioTokenizer.load(tmp_path / "kept").fingerprint() == AudioTokenizer(codec).fingerprint()
    about = json.loads((tmp_path / "kept" / "codec.json").read_text())
    (tmp_path / "kept" / "codec.json").write_text(json.dumps({**about, "fingerprint": "0" * 32}))
    with pytest.raises(ValueError, match="another codec"):
        load_codec(tmp_path / "kept")


def test_what_is_no_codec_is_refused(tmp_path):
    pytest.importorskip("transformers")
    import transformers

    config = transformers.WhisperConfig(d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1,
                                        vocab_size=60_000)
    transformers.WhisperModel(config).save_pretrained(tmp_path / "whisper")
    with pytest.raises(ValueError, match="whisper"):
        load_codec(tmp_path / "whisper")
