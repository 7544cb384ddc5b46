"""Pretrained encoders by chunks: a stream gives the states of the masked offline pass, which sees nothing past a chunk's end."""

import pytest
import torch

from tests.encoders.tiny import KINDS, build, make_audio
from voxkit.batch import Batch, Padded
from voxkit.config import structure
from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder
from voxkit.models.voxformer import VoxFormer, VoxFormerConfig

CHUNKED = [kind for kind in KINDS if kind != "whisper"]
HOP, LEAST = 80, 105  # samples by which a frame of the small checkpoints is later, and of which the first is made


def streamed(encoder, audio, piece):
    """All states [B, L, T, D] of audio [B, S] that comes in pieces."""
    state, parts = encoder.chunked.init_state(len(audio)), []
    pieces = audio.split(piece, dim=1)
    for i, samples in enumerate(pieces):
        states, state = encoder.stream(samples, state, final=i == len(pieces) - 1)
        parts.append(states)
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("piece", [37, 400, 100000])
@pytest.mark.parametrize("kind", CHUNKED)
@torch.inference_mode()
def test_a_stream_is_the_masked_pass(checkpoints, kind, piece):
    """Also where the last chunk is short, and where the utterance ends with less than a frame."""
    encoder = build(checkpoints, kind, chunk=4, left_context=8).eval()
    for size in (LEAST, LEAST + 3 * HOP, LEAST + 4 * HOP + 11, 3000, 5011):
        audio, lengths = make_audio([size])
        expected, frames = encoder(audio, lengths)
        found = streamed(encoder, audio, piece)
        assert found.shape == expected.shape and int(frames) == (size - LEAST) // HOP + 1
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", CHUNKED)
@torch.inference_mode()
def test_a_batch_is_each_alone(checkpoints, kind):
    encoder = build(checkpoints, kind, chunk=4, left_context=8).eval()
    audio, lengths = make_audio([5000, 1234, 3300])
    states, frames = encoder(audio, lengths)
    for row, size in enumerate(lengths.tolist()):
        alone, n = encoder(audio[row:row + 1, :size], lengths[row:row + 1])
        assert int(n) == int(frames[row])
        torch.testing.assert_close(states[row, :, :int(n)], alone[0], rtol=1e-3, atol=1e-4)
        assert not states[row, :, int(n):].any()


@pytest.mark.parametrize("kind", CHUNKED)
@torch.inference_mode()
def test_nothing_past_a_chunk_is_seen(checkpoints, kind):
    """Other audio behind the end of the third chunk changes nothing before it, and something after it."""
    encoder = build(checkpoints, kind, chunk=4, left_context=8).eval()
    audio, lengths = make_audio([5000])
    other = audio.clone()
    other[:, 12 * HOP + LEAST - HOP:] = -0.7 * other[:, 12 * HOP + LEAST - HOP:].roll(100, 1)
    one, another = encoder(audio, lengths)[0], encoder(other, lengths)[0]
    torch.testing.assert_close(one[:, :, :12], another[:, :, :12], rtol=1e-4, atol=1e-5)
    assert (one[:, :, 12:16] - another[:, :, 12:16]).abs().amax() > 0.01


@pytest.mark.parametrize("kind", CHUNKED)
@torch.inference_mode()
def test_one_chunk_that_holds_everything_is_the_published_model(checkpoints, kind):
    audio, lengths = make_audio([3000, 2000])
    whole = build(checkpoints, kind).eval()
    chunked = build(checkpoints, kind, chunk=64, left_context=64).eval()
    torch.testing.assert_close(chunked(audio[:1], lengths[:1])[0], whole(audio[:1], lengths[:1])[0], rtol=1e-3, atol=1e-4)
    assert whole.chunked is None and chunked.fingerprints() != whole.fingerprints()


@pytest.mark.parametrize("kind", ["wavlm-base", "hubert-large", "wav2vec2-base"])
def test_open_layers_learn_under_the_mask_and_the_whole_model_streams(checkpoints, kind):
    """Gradients reach the open layers; VoxFormer on top, whose own chunk is another, gives by stream what it gives at once."""
    torch.manual_seed(0)
    config = structure(VoxFormerConfig, {
        "vocab_size": 20, "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1},
        "front_end": {"adapter_hidden": 16, "adapter_dim": 32,
                      "pretrained": {"name": str(checkpoints[kind]), "unfreeze": [1, 2, 3, 4], "chunk": 8, "left_context": 16}},
        "encoder": {"preset": "toy", "num_layers": [1], "downsampling_factor": [1, 2], "encoder_dim": [32], "unmasked_dim": [32],
                    "feedforward_dim": [48], "num_heads": [2], "query_head_dim": [8], "value_head_dim": [8], "pos_dim": 16, "causal": True,
                    "chunk_size": [16, -1], "left_context": [32]}}, "model")
    model = VoxFormer(config)
    audio, lengths = make_audio([9000, 7000])
    batch = Batch(["a", "b"], audio=Padded(audio, lengths), tokens=Padded(torch.randint(3, 20, (2, 4)), torch.tensor([4, 3])))
    model.train().loss(batch).total.backward()
    layers = model.front_end.pretrained.backbone.layers
    assert all(layer.attention.q_proj.weight.grad.abs().sum() > 0 for layer in layers)
    model.eval()
    with torch.inference_mode():
        expected = model.encode(Batch(["a"], audio=Padded(audio[:1], lengths[:1]))).states
        state, parts = model.init_state(1), []
        for piece in audio[:1].split(700, dim=1):
            states, state = model.stream(piece, state)
            parts.append(states)
        parts.append(model.stream(audio[:1, :0], state, final=True)[0])
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-3, atol=1e-4)


def test_what_cannot_be(checkpoints):
    with pytest.raises(ValueError, match="does not hear chunk by chunk"):
        build(checkpoints, "whisper", chunk=8)
    with pytest.raises(ValueError, match="left_context: 20 frames are not whole chunks of 8"):
        PretrainedEncoder(PretrainedConfig(name=str(checkpoints["hubert-base"]), chunk=8, left_context=20))
