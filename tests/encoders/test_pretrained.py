"""Pretrained encoders against Hugging Face and torchaudio on small random checkpoints; frozen, open, cached."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.encoders import tiny
from tests.encoders.tiny import build

pytest.importorskip("transformers")

from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder  # noqa: E402
from voxkit.masks import lengths_to_mask  # noqa: E402

LENGTHS = [9000, 16000, 4321]


def reference(path: Path, kind: str, audio: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Hugging Face's hidden_states of one utterance [S]; the last is last_hidden_state, with the norm of Large models on it.

    (hidden_states[-1] of those models has the norm in transformers 4 and lacks it in 5.)
    """
    import transformers

    if kind == "whisper":
        extractor = transformers.WhisperFeatureExtractor()
        mel = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_features
        model = transformers.WhisperForConditionalGeneration.from_pretrained(path).model.encoder.eval()
        out = model(mel, output_hidden_states=True)
        return (*out.hidden_states[:-1], out.last_hidden_state)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(path)
    values = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    out = transformers.AutoModel.from_pretrained(path).eval()(values, output_hidden_states=True)
    return (*out.hidden_states[:-1], out.last_hidden_state)


@pytest.mark.parametrize("kind", [kind for kind in tiny.KINDS if kind != "whisper"])
def test_every_state_of_a_batch_equals_hugging_face_alone(checkpoints, kind):
    encoder = build(checkpoints, kind)
    audio, lengths = tiny.make_audio(LENGTHS)
    states, frames = encoder(audio, lengths)
    assert states.shape[1] == encoder.num_states == 5 and states.shape[3] == encoder.dim == 32
    for row, (samples, count) in enumerate(zip(LENGTHS, frames.tolist())):
        with torch.no_grad():
            expected = torch.stack(reference(checkpoints[kind], kind, audio[row, :samples]))[:, 0]
        assert count == expected.shape[1]
        torch.testing.assert_close(states[row, :, :count], expected, atol=2e-5, rtol=1e-4)
        assert not states[row, :, count:].any()


def test_whisper_equals_hugging_face_on_a_full_window(checkpoints):
    audio, lengths = tiny.make_audio([30 * 16000])
    audio[:, -400:] = 0
    states, frames = build(checkpoints, "whisper")(audio, lengths)
    assert frames.tolist() == [1500]
    with torch.no_grad():
        expected = torch.stack(reference(checkpoints["whisper"], "whisper", audio[0]))[:, 0]
    torch.testing.assert_close(states[0], expected, atol=2e-5, rtol=1e-4)


def test_whisper_state_0_of_short_audio_equals_hugging_face_padded(checkpoints):
    audio, lengths = tiny.make_audio(LENGTHS)
    states, frames = build(checkpoints, "whisper")(audio, lengths)
    for row, (samples, count) in enumerate(zip(LENGTHS, frames.tolist())):
        assert count == -(-samples // 320)
        with torch.no_grad():
            expected = reference(checkpoints["whisper"], "whisper", audio[row, :samples])[0][0, :count]
        torch.testing.assert_close(states[row, 0, :count], expected, atol=1e-5, rtol=1e-4)


def test_log_mel_equals_the_feature_extractor(checkpoints):
    from transformers import WhisperFeatureExtractor

    audio, lengths = tiny.make_audio([15999, 480, 100, 32000])
    audio[1, :480] = 0
    log_mel = build(checkpoints, "whisper").backbone.log_mel
    for row, samples in enumerate(lengths.tolist()):
        expected = WhisperFeatureExtractor()(audio[row, :samples].numpy(), sampling_rate=16000, return_tensors="pt").input_features[0]
        ours = log_mel(audio, lengths, 210)[row]
        torch.testing.assert_close(ours, expected[:, : ours.shape[1]], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_padding_never_matters(checkpoints, kind):
    encoder = build(checkpoints, kind, unfreeze=[3, 4]).eval()
    audio, lengths = tiny.make_audio(LENGTHS)
    states, frames = encoder(audio, lengths)
    for row, samples in enumerate(LENGTHS):
        alone, count = encoder(audio[row: row + 1, :samples], lengths[row: row + 1])
        assert count[0] == frames[row]
        torch.testing.assert_close(states[row, :, : count[0]], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("unfreeze", [[], [1], [4], [3, 4], [2]])
def test_continuing_from_cached_states_equals_the_whole(checkpoints, kind, unfreeze):
    encoder = build(checkpoints, kind, unfreeze=unfreeze).eval()
    audio, lengths = tiny.make_audio(LENGTHS)
    cached, frames = encoder.encode(audio, lengths)
    assert encoder.num_frozen == (min(unfreeze) - 1 if unfreeze else 4) and cached.shape[1] == len(encoder.cached_ids)
    states, _ = encoder.forward_from_states(cached, frames)
    assert torch.equal(states, encoder(audio, lengths)[0])


def test_chosen_states(checkpoints):
    audio, lengths = tiny.make_audio(LENGTHS)
    whole, _ = build(checkpoints, "wavlm-base")(audio, lengths)
    for unfreeze, cached_ids in (([], [0, 2, 4]), ([4], [0, 2, 3]), ([2], [0, 1])):
        encoder = build(checkpoints, "wavlm-base", states=[4, 0, 2], unfreeze=unfreeze).eval()
        states, frames = encoder(audio, lengths)
        assert encoder.num_states == 3 and encoder.cached_ids == cached_ids
        torch.testing.assert_close(states, whole[:, [0, 2, 4]], atol=1e-6, rtol=1e-5)
        cached, _ = encoder.encode(audio, lengths)
        assert torch.equal(encoder.forward_from_states(cached, frames)[0], states)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_frozen_means_no_gradient_no_dropout_no_checkpoint(checkpoints, kind):
    encoder = build(checkpoints, kind).train()
    audio, lengths = tiny.make_audio(LENGTHS)
    first, _ = encoder(audio, lengths)
    assert not first.requires_grad and not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules() if module is not encoder)
    assert torch.equal(first, encoder(audio, lengths)[0])
    assert set(encoder.frozen_names()) == set(encoder.state_dict())


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_open_layers_learn_and_nothing_else(checkpoints, kind):
    encoder = build(checkpoints, kind, unfreeze=[3, 4], gradient_checkpointing=True)
    audio, lengths = tiny.make_audio(LENGTHS)
    encoder(audio, lengths)[0].square().mean().backward()
    learning = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    allowed = ("backbone.layers.2.", "backbone.layers.3.", "backbone.last_norm.")
    assert learning and all(name.startswith(allowed) for name in learning)
    assert all((parameter.grad is not None) == (name in learning) for name, parameter in encoder.named_parameters())
    assert set(encoder.frozen_names()) == set(encoder.state_dict()) - learning
    assert encoder.backbone.layers[3].training and not encoder.backbone.layers[1].training


def test_gradient_passes_through_a_frozen_layer_above_an_open_one(checkpoints):
    encoder = build(checkpoints, "hubert-base", unfreeze=[2])
    states, _ = encoder(*tiny.make_audio(LENGTHS))
    states[:, 4].square().mean().backward()
    assert encoder.backbone.layers[1].feed_forward.output_dense.weight.grad.abs().max() > 0
    assert encoder.backbone.layers[2].feed_forward.output_dense.weight.grad is None


def test_dropout_lives_in_open_layers_and_repeats_with_the_seed(checkpoints):
    audio, lengths = tiny.make_audio(LENGTHS)
    for kind in ("wavlm-base", "whisper"):
        encoder = build(checkpoints, kind, unfreeze=[4], layerdrop=0.3, dropout=0.1)
        runs = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            runs.append(encoder(audio, lengths)[0])
        assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
        assert torch.equal(runs[0][:, :4], runs[2][:, :4])
        quiet = build(checkpoints, kind, unfreeze=[4], dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
        torch.testing.assert_close(quiet(audio, lengths)[0], quiet.eval()(audio, lengths)[0], atol=1e-6, rtol=1e-5)


def test_spans_are_masked_in_all_states_below_the_open_layers_and_for_each_view_anew(checkpoints):
    audio, lengths = tiny.make_audio(LENGTHS)
    encoder = build(checkpoints, "whisper", unfreeze=[3, 4], mask_time_prob=0.3, mask_time_length=3)
    torch.manual_seed(0)
    states, frames = encoder(audio, lengths, views=2)
    assert frames.tolist() == 2 * encoder.eval()(audio, lengths)[1].tolist()
    whole = encoder(audio, lengths)[0].repeat(2, 1, 1, 1)
    valid = lengths_to_mask(frames, whole.shape[2])
    masked = (states[:, 0] == 0).all(-1) & valid
    assert 0.1 < masked.sum() / valid.sum() < 0.5 and not torch.equal(*masked.chunk(2))
    for state in range(3):  # 0 to 2 are below layer 3
        expected = whole[:, state].masked_fill(masked[..., None], 0.0)
        assert torch.equal(states[:, state], expected)
    assert (states[:, 3] != 0).any(-1)[masked].all()
    plain = build(checkpoints, "whisper", unfreeze=[3, 4], dropout=0.0)
    assert torch.equal(*plain(audio, lengths, views=2)[0].chunk(2))
    frozen = build(checkpoints, "whisper", mask_time_prob=0.3)  # nothing open, nothing masked
    cached, frames = frozen.encode(audio, lengths)
    twice, double = frozen.forward_from_states(cached, frames, views=2)
    assert torch.equal(twice, cached.repeat(2, 1, 1, 1)) and double.tolist() == 2 * frames.tolist()


def test_views_may_share_their_spans(checkpoints):
    audio, lengths = tiny.make_audio(LENGTHS)
    encoder = build(checkpoints, "whisper", unfreeze=[3, 4], dropout=0.0, mask_time_prob=0.3, mask_time_length=3, mask_time_shared=True)
    first, second = (encoder(audio, lengths, views=2)[0].chunk(2) for _ in range(2))
    assert torch.equal(*first) and torch.equal(*second)
    assert not torch.equal(first[0][:, 0], second[0][:, 0]) and not encoder.tells_views_apart


def test_a_layer_that_an_earlier_stage_trained_stays_in_the_checkpoint(checkpoints):
    stage2 = build(checkpoints, "wavlm-base", unfreeze=[4])
    with torch.no_grad():
        for parameter in stage2.backbone.layers[3].parameters():
            parameter.add_(0.1)
    kept = {k: v for k, v in stage2.state_dict().items() if k not in stage2.frozen_names()}
    stage3 = build(checkpoints, "wavlm-base")
    before = stage3.fingerprints()
    stage3.load_state_dict(kept, strict=False)
    assert set(stage3.state_dict()) - set(stage3.frozen_names()) == set(kept)
    after = stage3.fingerprints()
    assert before[:4] == after[:4] and before[4] != after[4]


def test_fingerprints_follow_content(checkpoints, tmp_path):
    frozen, again = build(checkpoints, "whisper"), build(checkpoints, "whisper")
    assert frozen.content() == again.content()
    opened = build(checkpoints, "whisper", unfreeze=[3, 4])
    assert opened.fingerprints() == frozen.fingerprints()[:3]
    assert build(checkpoints, "whisper", dtype="bfloat16").fingerprints()[0] != frozen.fingerprints()[0]
    moved = tmp_path / "elsewhere"
    shutil.copytree(checkpoints["whisper"], moved)
    elsewhere = PretrainedEncoder(PretrainedConfig(name=str(moved)))
    assert elsewhere.fingerprints() == frozen.fingerprints() and elsewhere.content() == frozen.content()
    with torch.no_grad():
        again.backbone.layers[1].fc1.weight[0, 0] += 1e-3
    assert [a == b for a, b in zip(frozen.fingerprints(), again.fingerprints())] == [True, True, False, False, False]


def test_bfloat16_stays_close(checkpoints):
    audio, lengths = tiny.make_audio(LENGTHS)
    for kind in ("whisper", "hubert-base"):
        exact, _ = build(checkpoints, kind)(audio, lengths)
        rough, _ = build(checkpoints, kind, dtype="bfloat16")(audio, lengths)
        assert (exact - rough).norm() / exact.norm() < 0.02


def test_only_the_encoder_half_of_whisper_is_kept(checkpoints):
    encoder = build(checkpoints, "whisper")
    assert not any("decoder" in name or "proj_out" in name for name in encoder.state_dict())


@pytest.mark.parametrize("stable", [False, True])
def test_wavlm_agrees_with_torchaudio(checkpoints, stable):
    torchaudio = pytest.importorskip("torchaudio")
    kind = "wavlm-large" if stable else "wavlm-base"
    encoder = build(checkpoints, kind, normalize=False).eval()
    conv = list(zip(tiny.CONV["conv_dim"], tiny.CONV["conv_kernel"], tiny.CONV["conv_stride"]))
    theirs = torchaudio.models.wavlm_model(
        extractor_mode="layer_norm" if stable else "group_norm", extractor_conv_layer_config=conv, extractor_conv_bias=stable,
        encoder_embed_dim=32, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=16, encoder_pos_conv_groups=4,
        encoder_num_layers=4, encoder_num_heads=4, encoder_num_buckets=320, encoder_max_distance=800,
        encoder_attention_dropout=0.0, encoder_ff_interm_features=64, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0,
        encoder_layer_norm_first=stable, encoder_layer_drop=0.0, aux_num_out=None).eval()
    theirs.load_state_dict(to_torchaudio(encoder.backbone.state_dict(), stable))
    audio, lengths = tiny.make_audio([16000])
    states, _ = encoder(audio, lengths)
    features, _ = theirs.extract_features(audio)
    last, _ = theirs(audio)
    for layer in range(3 if stable else 4):
        torch.testing.assert_close(states[:, layer + 1], features[layer], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(states[:, 4], last, atol=2e-5, rtol=1e-4)


def to_torchaudio(weights: dict[str, torch.Tensor], stable: bool) -> dict[str, torch.Tensor]:
    """Our (Hugging Face's) names of WavLM's weights → torchaudio's."""
    out = {}
    for name, value in weights.items():
        new = name
        for old, replacement in (("convs.", "feature_extractor.conv_layers."), ("projection.", "encoder.feature_projection."),
                                 ("position_conv.", "encoder.transformer.pos_conv_embed."),
                                 ("first_norm.", "encoder.transformer.layer_norm."), ("last_norm.", "encoder.transformer.layer_norm."),
                                 ("layers.", "encoder.transformer.layers.")):
            if name.startswith(old):
                new = replacement + name[len(old):]
                break
        new = new.replace("gru_rel_pos_const", "gru_rel_pos_const").replace("attention.out_proj", "attention.attention.out_proj")
        new = new.replace("rel_attn_embed", "rel_attn_embed")
        if any(f".{part}_proj." in new for part in "qkv"):
            continue
        out[new] = value
    for index in range(4):
        for kind in ("weight", "bias"):
            parts = [weights[f"layers.{index}.attention.{part}_proj.{kind}"] for part in "qkv"]
            out[f"encoder.transformer.layers.{index}.attention.attention.in_proj_{kind}"] = torch.cat(parts)
    return out


def test_spec_augment_masks_the_spectrum_in_training_only(checkpoints):
    from voxkit.audio.specaugment import SpecAugmentConfig

    masked = build(checkpoints, "whisper", spec_augment=SpecAugmentConfig(prob=1.0, time_warp=0, time_mask_width=20))
    plain = build(checkpoints, "whisper")
    plain.load_state_dict(masked.state_dict())
    assert masked.fingerprints() == plain.fingerprints()
    audio, lengths = tiny.make_audio([16000, 9000])
    expected = plain(audio, lengths)[0]
    assert not torch.equal(masked.train()(audio, lengths)[0], expected)
    torch.testing.assert_close(masked.eval()(audio, lengths)[0], expected)
    with pytest.raises(ValueError, match="hubert.* has no spectrum to mask; use mask_time_prob"):
        build(checkpoints, "hubert-base", spec_augment=SpecAugmentConfig(prob=0.5))


def test_errors_name_what_and_what_next(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="unfreeze: no layer 5, 9 in .*valid: 1 to 4.*states: no state 7"):
        build(checkpoints, "wavlm-base", unfreeze=[4, 5, 9], states=[7])
    with pytest.raises(ValueError, match="no such folder"):
        PretrainedEncoder(PretrainedConfig(name=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="without config.json"):
        PretrainedEncoder(PretrainedConfig(name=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="'bert'.*wavlm, hubert, wav2vec2, whisper"):
        PretrainedEncoder(PretrainedConfig(name=str(tmp_path)))
    shutil.copy(checkpoints["whisper"] / "config.json", tmp_path)
    with pytest.raises(ValueError, match="no model.safetensors in"):
        PretrainedEncoder(PretrainedConfig(name=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"not what it is called")
    with pytest.raises(ValueError, match="cannot load the pretrained encoder"):
        PretrainedEncoder(PretrainedConfig(name=str(tmp_path)))
    with pytest.raises(ValueError, match="at most 30 s; too long: b \\(31.00 s\\)"):
        build(checkpoints, "whisper")(torch.zeros(2, 31 * 16000), torch.tensor([16000, 31 * 16000]), ids=["a", "b"])
    with pytest.raises(ValueError, match="too short: utterance 1"):
        build(checkpoints, "hubert-base")(torch.zeros(2, 16000), torch.tensor([16000, 20]))
    with pytest.raises(ValueError, match="Was the cache built with other layers open"):
        build(checkpoints, "whisper", unfreeze=[4]).forward_from_states(torch.zeros(1, 5, 3, 32), torch.tensor([3]))


def test_long_audio_goes_through_in_windows(checkpoints):
    encoder, rate = build(checkpoints, "whisper").eval(), 50
    torch.manual_seed(0)
    audio, lengths = torch.randn(2, 65 * 16000) * 0.1, torch.tensor([65 * 16000, 5 * 16000])
    with torch.no_grad():
        states, frames = encoder(audio, lengths)
        alone, _ = encoder(audio[1:, :5 * 16000], lengths[1:])
        start, _ = encoder(audio[:1, :29 * 16000], torch.tensor([29 * 16000]))
    assert frames.tolist() == [65 * rate, 5 * rate]
    torch.testing.assert_close(states[1:, :, :5 * rate], alone)
    torch.testing.assert_close(states[:1, :, :28 * rate], start[:, :, :28 * rate])
    assert states[1, :, 5 * rate:].abs().max() == 0


def test_half_precision_cache_under_autocast(checkpoints):
    encoder = build(checkpoints, "whisper", unfreeze=[4]).eval()
    audio, lengths = tiny.make_audio([16000, 9000])
    cached, frames = encoder.encode(audio, lengths)
    plain, _ = encoder.forward_from_states(cached, frames)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, _ = encoder.forward_from_states(cached.half(), frames)
    assert (states - plain).norm() < 0.05 * plain.norm()


def test_the_hub_out_of_reach_says_what_to_do(monkeypatch):
    import transformers

    def unreachable(*_, **__):
        raise OSError("We couldn't connect to 'https://hub' to load the files")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(ValueError, match="owner/model: We couldn't connect.*hf download owner/model"):
        PretrainedEncoder(PretrainedConfig(name="owner/model"))


def test_config_problems_come_together():
    problems = PretrainedConfig(name="", unfreeze=[0, 3, 3], dtype="half", layerdrop=1.5).problems()
    assert [p.split(":")[0] for p in problems] == ["name", "dtype", "layerdrop", "unfreeze", "unfreeze"]
