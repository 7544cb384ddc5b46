"""icefall checkpoints: the golden outputs of the published code, and checkpoints made up from our own parameters under icefall's names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from voxkit.encoders.zipformer import ConvSubsampling, Zipformer, ZipformerConfig, from_preset

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "import_icefall.py"
spec = importlib.util.spec_from_file_location("import_icefall", SCRIPT)
tool = importlib.util.module_from_spec(spec)
sys.modules["import_icefall"] = tool
spec.loader.exec_module(tool)


@pytest.fixture(scope="module")
def golden(shared_dir):
    file = shared_dir / "golden" / "zipformer.pt"
    if not file.is_file():
        pytest.skip(f"no golden outputs at {file}")
    return torch.load(file, weights_only=True)


def build(config, state):
    part = lambda start: {name[len(start):]: value for name, value in state.items() if name.startswith(start)}  # noqa: E731
    front = ConvSubsampling(80, config.input_dim, isolate_padding=config.isolate_padding)
    front.load_state_dict(part("front_end.subsampling."))
    encoder = Zipformer(config)
    encoder.load_state_dict(part("encoder."))
    return front.eval(), encoder.eval(), part("ctc.")


@pytest.mark.parametrize("kind", ["offline", "causal"])
def test_golden_outputs(golden, kind):
    entry = golden[kind]
    config, state = tool.import_state_dict(entry["state_dict"], entry["kwargs"])
    assert sum(v.numel() for v in state.values()) == sum(v.numel() for v in entry["state_dict"].values())
    front, encoder, ctc = build(config, state)
    with torch.no_grad():
        embed, embed_lengths = front(entry["features"], entry["feature_lengths"])
        out, lengths = encoder(embed, embed_lengths)
        log_probs = nn.functional.linear(out, ctc["weight"], ctc["bias"]).log_softmax(-1)
    assert torch.equal(embed_lengths, entry["embed_lengths"]) and torch.equal(lengths, entry["encoder_lengths"])
    for ours, name, ends in ((embed, "embed", embed_lengths), (out, "encoder_out", lengths), (log_probs, "log_probs", lengths)):
        for i, end in enumerate(ends.tolist()):
            torch.testing.assert_close(ours[i, :end], entry[name][i, :end], rtol=0, atol=1e-4)


def test_golden_stream(golden):
    entry = golden["causal"]
    front, encoder, _ = build(*tool.import_state_dict(entry["state_dict"], entry["kwargs"]))
    features, parts = entry["streaming_features"], []
    before, state = front.init_state(1), encoder.init_state(1)
    with torch.no_grad():
        for start in range(0, 6 * 32, 32):
            x, before = front.stream(features[:, start:start + 32 + front.lookahead], before)
            y, state = encoder.stream(x, state)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), entry["streaming_out"], rtol=0, atol=1e-4)


def theirs(config: ZipformerConfig, vocab: int = 12) -> dict[str, torch.Tensor]:
    """Random parameters under icefall's names, found by asking for each of ours which name would become it."""
    encoder, front = Zipformer(config), ConvSubsampling(80, config.input_dim)
    parts = {"encoder.": encoder, "front_end.subsampling.": front, "ctc.": nn.Linear(config.output_dim, vocab)}
    ours = {start + name: p.detach() for start, part in parts.items() for name, p in part.named_parameters()}
    stems = [f"encoder_embed.{part}" for part in tool._FRONT_END] + ["ctc_output.1", "encoder.downsample_output"]
    inside = [f"{part}.{module}" for part, (_, modules) in tool._LAYER.items() for module in modules] + list(tool._LAYER)
    for i, stack in enumerate(encoder.stacks):
        start = f"encoder.encoders.{i}."
        stems += [start + "downsample", start + "out_combiner"]
        nested = "encoder." if stack.factor > 1 else ""
        for j in range(len(stack.layers)):
            stems += [f"{start}{nested}layers.{j}"] + [f"{start}{nested}layers.{j}.{part}" for part in inside]
    leaves = ("weight", "bias", "log_scale", "bypass_scale", "chunkwise_conv_scale")
    names = [f"{stem}.{leaf}" for stem in stems for leaf in leaves]
    out = {name: ours.pop(tool.rename(name)) for name in names if tool.rename(name) in ours}
    assert not ours
    return out


@pytest.mark.parametrize("config", [
    from_preset("toy", downsampling_factor=[1, 2, 2]), from_preset("toy", causal=True, output_downsampling=1),
    from_preset("toy", downsampling_factor=[2, 1, 4], kernel=[31, 15, 7], num_heads=[4, 8, 4], num_layers=[2, 1, 1], pos_dim=24,
                feedforward_dim=[64, 128, 96], value_head_dim=[16], input_dim=72)])
def test_architecture_is_read_off_the_shapes(config):
    found, state = tool.import_state_dict(theirs(config), {})
    for name in ("input_dim", "pos_dim", "causal", "output_downsampling", "downsampling_factor"):
        assert getattr(found, name) == getattr(config, name), name
    for i in range(config.num_stacks):
        assert {**found.stack(i), "unmasked_dim": 0} == {**config.stack(i), "unmasked_dim": 0}
    build(found, state)


def test_an_attention_decoder_is_left_out():
    state = theirs(from_preset("toy", downsampling_factor=[1, 2, 2]))
    notices: list[str] = []
    extra = {"attention_decoder.decoder.embed.weight": torch.zeros(12, 4)}
    _, ours = tool.import_state_dict({f"module.{k}": v for k, v in {**state, **extra}.items()}, {}, notices=notices)
    assert len(ours) == len(state) and notices == ["left out: attention_decoder.* (the attention decoder, 48 parameters)"]


def test_what_does_not_fit_is_named():
    state = theirs(from_preset("toy", downsampling_factor=[1, 2, 2]))
    with pytest.raises(ValueError, match="2 parameters have no place .*: encoder.extra.weight, other"):
        tool.import_state_dict({**state, "encoder.extra.weight": torch.zeros(1), "other": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="cnn_module_kernel: given as 31 for stack 0, but the parameter shapes say 15"):
        tool.import_state_dict(state, {"cnn_module_kernel": "31,15,15"})
    with pytest.raises(ValueError, match="unknown argument kernel; known: downsampling_factor"):
        tool.import_state_dict(state, {"kernel": 3})
    with pytest.raises(ValueError, match="no Zipformer in this checkpoint"):
        tool.import_state_dict({"a.b": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="give num_heads"):
        tool.import_state_dict(state, {"num_heads": [7]})


def icefall_tokenizer(folder: Path, size: int) -> Path:
    import sentencepiece

    text = folder / "text.txt"
    text.write_text("HEAL ME NOW PUSH THE LEFT LANE WARD AT DRAGON\n" * 5)
    sentencepiece.SentencePieceTrainer.train(input=str(text), model_prefix=str(folder / "bpe"), vocab_size=size, model_type="bpe",
                                             unk_id=2, bos_id=-1, eos_id=-1, user_defined_symbols=["<blk>", "<sos/eos>"], minloglevel=2)
    return folder / "bpe.model"


def test_command_writes_a_checkpoint_that_decodes(tmp_path, capsys):
    from voxkit.checkpoint.weights import load_model_weights
    from voxkit.run_config import load_setup
    from voxkit.text.vocabulary import load_vocabulary

    bpe, out = icefall_tokenizer(tmp_path, 40), tmp_path / "model"
    state = theirs(from_preset("toy", downsampling_factor=[1, 2, 2]), vocab=40)
    torch.save({"model": state, "epoch": 3, "exp_dir": Path("zipformer/exp")}, tmp_path / "a.pt")  # icefall's hold all its options
    torch.save(state, tmp_path / "b.pt")
    assert tool.main([str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--out", str(out), "--bpe-model", str(bpe)]) == 0
    assert "80 mel bins, not causal" in capsys.readouterr().out
    tokenizer, recipe = load_vocabulary(out), load_setup(out / "config.yaml")
    assert tokenizer.decode(tokenizer.encode("PUSH THE LEFT LANE")) == "PUSH THE LEFT LANE" and tokenizer.size == 41
    model = recipe.build_model(tokenizer.size).eval()
    load_model_weights(model, out)
    torch.testing.assert_close(model.encoder.stacks[0].layers[0].norm.bias, state["encoder.encoders.0.layers.0.norm.bias"])
    log_probs = model.ctc_log_probs(torch.randn(1, 2, model.encoder.output_dim))
    assert log_probs.argmax(-1).max() != 2 and log_probs[..., 2].max() < -1000
    assert tool.main([str(tmp_path / "none.pt"), "--out", str(out)]) == 1
    assert "no checkpoint at" in capsys.readouterr().err
