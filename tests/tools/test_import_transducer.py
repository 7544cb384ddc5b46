"""icefall transducers: the golden outputs of the published code, other sizes and seeds, averages, and checkpoints that decode."""

import pytest
import torch
from torch import nn

from tests.noise import noise_set
from tests.tools.test_import_icefall import build, icefall_tokenizer, theirs, tool
from voxkit.cli.main import main
from voxkit.encoders.zipformer import from_preset
from voxkit.infer.recognizer import Recognizer
from voxkit.search.options import SearchOptions
from voxkit.search.transducer import transducer_greedy


def icefall(config, vocab, seed=0, decoder_dim=24, joiner_dim=20, context=2, group=4, ctc=False):
    """A random transducer under icefall's names."""
    torch.manual_seed(seed)
    state = theirs(config, vocab)
    if not ctc:
        del state["ctc_output.1.weight"], state["ctc_output.1.bias"]
    parts = {"joiner.encoder_proj": nn.Linear(config.output_dim, joiner_dim), "joiner.decoder_proj": nn.Linear(decoder_dim, joiner_dim),
             "joiner.output_linear": nn.Linear(joiner_dim, vocab), "simple_am_proj": nn.Linear(config.output_dim, vocab),
             "simple_lm_proj": nn.Linear(decoder_dim, vocab)}
    state |= {f"{name}.{leaf}": value.detach() for name, part in parts.items() for leaf, value in part.named_parameters()}
    state["decoder.embedding.weight"] = torch.randn(vocab, decoder_dim)
    if context > 1:
        state["decoder.conv.weight"] = torch.randn(decoder_dim, group, context) / (group * context) ** 0.5
    return state


def their_scores(state, states, tokens, context, group):
    """[T, D], [U] → logits [T, U + 1, V] by the formulas of icefall's decoder and joiner."""
    x = nn.functional.embedding(torch.tensor([0, *tokens]), state["decoder.embedding.weight"])
    if context > 1:
        padded = nn.functional.pad(x.T, (context - 1, 0))
        weight = state["decoder.conv.weight"]
        x = nn.functional.conv1d(padded[None], weight, groups=weight.shape[0] // group)[0].T.relu()
    linear = lambda name, value: nn.functional.linear(value, state[f"{name}.weight"], state[f"{name}.bias"])  # noqa: E731
    joint = linear("joiner.encoder_proj", states)[:, None] + linear("joiner.decoder_proj", x)
    return linear("joiner.output_linear", joint.tanh())


def test_golden_from_features_to_hypotheses(shared_dir, tmp_path):
    file = shared_dir / "golden" / "transducer.pt"
    if not file.is_file():
        pytest.skip(f"no golden outputs at {file}")
    golden, out = torch.load(file, weights_only=True), tmp_path / "model"
    torch.save({"model": golden["state_dict"]}, tmp_path / "pretrained.pt")
    kwargs = {name: golden["kwargs"][name] for name in ("encoder_unmasked_dim", "num_heads", "pos_head_dim")}
    options = [part for name, value in kwargs.items() for part in (f"--{name.replace('_', '-')}", ",".join(map(str, value)))]
    assert tool.main([str(tmp_path / "pretrained.pt"), "--out", str(out), *options]) == 0
    recipe = load(out)
    model = recipe.eval()
    with torch.no_grad():
        embed, lengths = model.front_end.subsampling(golden["features"], golden["feature_lengths"])
        states, lengths = model.encoder(embed, lengths)
        assert torch.equal(lengths, golden["encoder_lengths"])
        for i, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(states[i, :n], golden["encoder_out"][i, :n], rtol=0, atol=1e-4)
        found = transducer_greedy(model.transducer, states, lengths)
    assert [h.tokens for h in found] == golden["greedy"] and [h.frames for h in found] == golden["greedy_frames"]


def load(out):
    """The model of a checkpoint without a tokenizer."""
    from voxkit.checkpoint.weights import load_model_weights
    from voxkit.run_config import load_setup

    model = load_setup(out / "config.yaml").build_model()
    load_model_weights(model, out)
    return model


@pytest.mark.parametrize("seed,context,group,decoder_dim,causal", [(1, 2, 4, 24, False), (2, 2, 24, 24, True), (3, 1, 1, 20, False),
                                                                   (4, 3, 2, 16, True)])
def test_scores_are_those_of_icefalls_formulas(seed, context, group, decoder_dim, causal):
    config = from_preset("toy", downsampling_factor=[1, 2, 2], causal=causal)
    state = icefall(config, 15, seed, decoder_dim, 20, context, group)
    found, ours = tool.import_state_dict(state, {"causal": causal})
    assert found.causal == causal
    sizes = tool.transducer_options(ours)
    assert sizes == {"decoder_dim": decoder_dim, "joiner_dim": 20, "context": context, "group_size": group if context > 1 else 1}
    from voxkit.decoders.transducer import Transducer, TransducerConfig

    head = Transducer(TransducerConfig(**sizes), 15, config.output_dim)
    head.load_state_dict({n.removeprefix("transducer."): v for n, v in ours.items() if n.startswith("transducer.")})
    states, tokens = torch.randn(9, config.output_dim), [3, 7, 7, 1]
    logits = head.joiner(head.hear(states)[:, None], head.joiner.decoder_proj(head.decode(torch.tensor([tokens])))[0])
    torch.testing.assert_close(logits, their_scores(state, states, tokens, context, group), atol=1e-4, rtol=1e-5)
    build(found, {name: value for name, value in ours.items() if not name.startswith("transducer.")})


def test_what_does_not_fit_is_named():
    state = icefall(from_preset("toy", downsampling_factor=[1, 2, 2]), 15)
    with pytest.raises(ValueError, match="context_size: given as 3, but the parameter shapes say 2"):
        tool.import_state_dict(state, {"context_size": 3})
    del state["joiner.output_linear.bias"]
    with pytest.raises(ValueError, match="the transducer lacks joiner.output_linear.bias"):
        tool.import_state_dict(state, {})


@pytest.mark.parametrize("ctc", [False, True])
def test_command_writes_a_checkpoint_that_decodes(ctc, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bpe = icefall_tokenizer(tmp_path, 40)
    state = icefall(from_preset("toy", downsampling_factor=[1, 2, 2], causal=True), 40, ctc=ctc)
    del state["simple_am_proj.weight"], state["simple_am_proj.bias"]
    torch.save({"model": state}, "a.pt")
    assert tool.main(["a.pt", "--out", "model", "--bpe-model", str(bpe)]) == 0
    assert "no simple_am_proj in the checkpoint" in capsys.readouterr().out
    recognizer = Recognizer.load("model")
    assert (recognizer.model.heads.ctc is not None) == ctc
    names = ["greedy", *(["prefix_beam"] if ctc else []), "transducer_greedy", "transducer_beam"]
    assert [m for m in recognizer.methods() if not m.startswith("k2")] == names
    head = recognizer.model.transducer
    assert head.join(head.hear(torch.randn(5, recognizer.model.encoder.output_dim)), head.say(head.init_context(1)))[:, 2].max() < -1000
    ids = [0, 1, *range(3, 41)]  # ours without the token that is new; icefall's 2 is our 3
    said = head.say(torch.tensor([[ids[5], ids[9]]]))
    torch.testing.assert_close(head.join(torch.zeros(20), said)[:, ids], (
        nn.functional.linear(torch.tanh(said), state["joiner.output_linear.weight"], state["joiner.output_linear.bias"])).log_softmax(-1))
    noise_set(tmp_path / "data", "test", 2)
    methods = ["--methods", "transducer_greedy", "transducer_beam"]
    assert main(["decode", "model", "--sets", "data/cuts_test.jsonl.gz", *methods, "--out", "out", "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "results.csv").is_file()
    recording = tmp_path / "data" / "test0.wav"
    capsys.readouterr()
    assert main(["transcribe", "model", str(recording), "--device", "cpu"]) == 0  # by the method that the checkpoint names
    assert capsys.readouterr().out
    stream = ["--stream", "--chunk-ms", "640", "--method", "transducer_beam", "--device", "cpu"]
    assert main(["transcribe", "model", str(recording), *stream]) == 0
    assert recognizer.transcribe(str(recording), SearchOptions("transducer_beam", beam=2)).audio_duration > 0


def test_running_averages(tmp_path, capsys):
    config = from_preset("toy", downsampling_factor=[1, 2, 2])
    one, two = icefall(config, 12, seed=1), icefall(config, 12, seed=2)
    files = [str(tmp_path / name) for name in ("one.pt", "two.pt", "plain.pt")]
    for file, state, batch in ((files[0], one, 1000), (files[1], two, 4000)):
        torch.save({"model": {n: torch.zeros_like(v) for n, v in state.items()}, "model_avg": {n: v.double() for n, v in state.items()},
                    "batch_idx_train": batch}, file)
    torch.save({"model": one}, files[2])

    def embedding(*arguments):
        assert tool.main([*arguments, "--out", str(tmp_path / "model")]) == 0
        return load(tmp_path / "model").transducer.decoder.embedding.weight

    name = "decoder.embedding.weight"
    torch.testing.assert_close(embedding(files[1], "--use-averaged-model").detach(), two[name])
    expected = (4 * two[name] - one[name]) / 3  # the sum of 4000 batches without that of the first 1000
    torch.testing.assert_close(embedding(files[0], files[1], "--use-averaged-model").detach(), expected)
    capsys.readouterr()
    for wrong, message in ((files[2:], "it holds no model_avg"), (files[1::-1], "the earlier one first"), ([files[0]] * 3, "between two")):
        assert tool.main([*wrong, "--use-averaged-model", "--out", str(tmp_path / "model")]) == 1
        assert message in capsys.readouterr().err
