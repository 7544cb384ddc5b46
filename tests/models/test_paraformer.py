"""Paraformer whole: padding, every encoder and front end, searches, checkpoints, learning."""

import pytest
import torch

from tests.encoders import tiny
from voxkit import config as configuration
from voxkit.batch import Batch, Padded
from voxkit.checkpoint.format import write_checkpoint
from voxkit.config import ConfigError
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.losses.boundary import ctc_boundaries
from voxkit.run_config import make_setup
from voxkit.search.greedy import ctc_greedy
from voxkit.text.sentencepiece import train_characters
from voxkit.train.optimizers import parameter_groups

STACKED = {"kind": "stacked", "fbank_bins": 8, "stack": 4, "stride": 3, "subsampling_dim": 12, "spec_augment": {"prob": 0.0}}
CONFORMER = {"kind": "conformer", "dim": 16, "heads": 2, "ffn": 24, "layers": 1, "kernel": 5}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_characters(["heal me now", "push the left lane"], tmp_path_factory.mktemp("tokens"))


def setup(**model):
    model = {"front_end": STACKED, "encoder": CONFORMER, "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}, **model}
    return make_setup(configuration.OmegaConf.create({"system": "paraformer", "model": model}))


def build(tokenizer, **model):
    torch.manual_seed(0)
    return setup(**model).build_model(tokenizer.size)


def make_batch(tokenizer, bins: int = 8, frames=(90, 62)) -> Batch:
    torch.manual_seed(3)
    texts = ["heal me now", "push"]
    tokens = [torch.tensor(tokenizer.encode(t)) for t in texts]
    return Batch(["a", "b"], features=Padded(torch.randn(2, max(frames), bins), torch.tensor(frames)), texts=texts,
                 tokens=Padded.of(tokens))


@pytest.mark.parametrize("encoder", [CONFORMER, {**CONFORMER, "positions": "learned"}, {"kind": "transformer", "dim": 16, "heads": 2,
                                     "ffn": 24, "layers": 1}, {"kind": "zipformer", "preset": "toy"}], ids=lambda e: e["kind"])
def test_padding_never_matters(encoder, tokenizer):
    model = build(tokenizer, encoder=encoder, loss={"boundary": 0.3, "intermediate": 0.5}, intermediate_ctc={"after": [0, 1]}).eval()
    batch = make_batch(tokenizer)
    with torch.no_grad():
        states, lengths = model.encode(batch)[:2]
        whole = model.predict(states, lengths)
        one = batch.take(slice(1, 2))
        alone = model.predict(*model.encode(one)[:2])
        n = int(alone.lengths[0])
        assert n == int(whole.lengths[1]) > 0
        torch.testing.assert_close(whole.log_probs[1, :n], alone.log_probs[0], atol=5e-4, rtol=1e-3)
        torch.testing.assert_close(whole.times[1, :n], alone.times[0], atol=1e-3, rtol=1e-3)
        first = batch.take(slice(0, 1))
        losses = [model.loss(b) for b in (batch, one, first)]
        for name in ("cross_entropy", "quantity", "ctc", "intermediate", "boundary"):
            both = sum(x.parts[name] * x.weight for x in losses[1:]) / losses[0].weight
            torch.testing.assert_close(losses[0].parts[name], both, atol=1e-3, rtol=1e-3)


def test_loss_is_the_weighted_sum_of_its_parts(tokenizer):
    weights = {"cross_entropy": 0.7, "quantity": 0.4, "ctc": 0.2, "boundary": 0.5, "mwer": 0.3}
    model = build(tokenizer, loss=weights).train()
    out = model.loss(make_batch(tokenizer))
    torch.testing.assert_close(out.total, sum(w * out.parts[name] for name, w in weights.items()))
    out.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in model.named_parameters())


def test_pretrained_front_end_and_its_frozen_weights(tokenizer, tmp_path):
    name = str(tiny.save_model("whisper", tmp_path))
    model = build(tokenizer, front_end={"kind": "pretrained", "pretrained": {"name": name}, "adapter_hidden": 8, "adapter_dim": 8}).eval()
    assert model.frozen_names() and not set(model.checkpoint_state_dict()) & model.frozen_names()
    tokens = torch.tensor([tokenizer.encode("push")])
    count = torch.tensor([tokens.shape[1]])
    batch = Batch(["a"], audio=Padded(torch.randn(1, 16000) * 0.1, torch.tensor([16000])), tokens=Padded(tokens, count))
    assert model.loss(batch).total.isfinite() and model.seconds_per_frame == 0.02


@pytest.mark.parametrize("method", ["greedy", "guided", "beam", "ctc_greedy", "prefix_beam", "rescoring"])
def test_every_search_gives_words_and_confidences(method, tokenizer):
    model, batch = build(tokenizer).eval(), make_batch(tokenizer)
    found = Recognizer(model, tokenizer).recognize(batch, SearchOptions(method, beam=3, words=True))
    assert [h.audio_duration for h in found] == pytest.approx([0.9, 0.62])
    assert any(h.tokens for h in found)
    for h in found:
        assert len(h.token_confidences) == len(h.tokens) and all(0 <= c <= 1 for c in h.token_confidences)
        assert [w.word for w in h.words] == h.text.split()
        assert all(0 <= w.start <= w.end <= h.audio_duration + 1e-6 for w in h.words)


def test_beam_without_help_says_what_greedy_says(tokenizer):
    recognizer, batch = Recognizer(build(tokenizer).eval(), tokenizer), make_batch(tokenizer)
    greedy = recognizer.recognize(batch, SearchOptions("greedy"))
    beam = recognizer.recognize(batch, SearchOptions("beam", beam=3, ctc_weight=0.0))
    assert [h.tokens for h in greedy] == [h.tokens for h in beam]


def test_guided_the_decoder_gets_a_vector_for_each_token_of_ctc(tokenizer):
    model, batch = build(tokenizer, loss={"boundary": 1.0}).eval(), make_batch(tokenizer)
    states, lengths = model.encode(batch)[:2]
    said = ctc_greedy(model.ctc_log_probs(states), lengths)
    guess = model.predict(states, lengths, guided=True)
    assert guess.lengths.tolist() == [len(h.tokens) for h in said] and min(guess.lengths) > 2
    for b, h in enumerate(said):
        alone = model.predict(states[b:b + 1, :lengths[b]], lengths[b:b + 1], guided=True)
        torch.testing.assert_close(alone.log_probs[0], guess.log_probs[b, :len(h.tokens)], atol=1e-4, rtol=1e-4)
        begins = [0.0, *guess.times[b].tolist()]
        assert all(begin - 1 <= frame <= end for begin, frame, end in zip(begins, h.frames, begins[1:]))
    with torch.no_grad():
        model.ctc.bias[0] += 100.0
    assert model.predict(states, lengths, guided=True).log_probs.shape[1] == 0


@pytest.mark.parametrize("boundary", [0.0, 1.0])
def test_score_is_what_the_decoder_says_of_a_text(boundary, tokenizer):
    """One hypothesis among others of other lengths scores as it does alone, with the vectors that it would have had in training."""
    model, batch = build(tokenizer, loss={"boundary": boundary}).eval(), make_batch(tokenizer)
    states, lengths = model.encode(batch)[:2]
    tokens = torch.randint(4, tokenizer.size, (2, 3, 6))
    counts = torch.tensor([[6, 2, 0], [1, 4, 5]])
    scores = model.score(states, lengths, tokens, counts)
    assert scores[0, 2] == 0
    for b, n in ((0, 0), (1, 1)):
        u = int(counts[b, n])
        own = states[b:b + 1], lengths[b:b + 1]
        text = tokens[b, n:n + 1, :u], counts[b, n:n + 1]
        boundaries = ctc_boundaries(model.ctc_log_probs(own[0]), own[1], *text) if boundary else None
        found = model.predictor(*own, text[1], boundaries)
        log_probs = model.decoder(found.vectors, found.lengths, states[b:b + 1], lengths[b:b + 1]).log_softmax(-1)
        torch.testing.assert_close(scores[b, n], log_probs[0].gather(1, tokens[b, n, :u, None]).sum(), rtol=1e-4, atol=1e-4)


def test_without_ctc_head(tokenizer):
    model, batch = build(tokenizer, loss={"ctc": 0.0}).eval(), make_batch(tokenizer)
    assert "ctc" not in model.loss(batch)
    recognizer = Recognizer(model, tokenizer)
    assert recognizer.recognize(batch, SearchOptions("beam"))
    for method in ("guided", "prefix_beam"):
        with pytest.raises(ValueError, match=f"method {method} needs a CTC head, and this model has none"):
            recognizer.recognize(batch, SearchOptions(method))


def test_boundaries_count_from_their_step_on_and_are_seen_before(tokenizer):
    model = build(tokenizer, loss={"boundary": 2.0, "boundary_start": 5}, glancing={"start": 0.0, "end": 0.0}, dropout=0.0).eval()
    losses = []
    for step in (4, 5):
        model.set_step(step)
        losses.append(model.loss(make_batch(tokenizer)))
    (early, late), plain = losses, build(tokenizer, glancing={"start": 0.0, "end": 0.0}, dropout=0.0).eval().loss(make_batch(tokenizer))
    assert early.parts["boundary"] == late.parts["boundary"] > 0
    torch.testing.assert_close(early.total, plain.total)
    assert late.parts["cross_entropy"] != early.parts["cross_entropy"]  # other vectors: each token's own
    before = early.total - early.parts["cross_entropy"]
    torch.testing.assert_close(late.total - late.parts["cross_entropy"], before + 2.0 * late.parts["boundary"])
    assert "boundary" not in build(tokenizer).loss(make_batch(tokenizer))


def test_boundaries_teach_the_predictor_what_ctc_knows(tokenizer):
    """With the CTC head as it is, the loss moves the fires to where that head has the tokens."""
    model, batch = build(tokenizer, loss={"boundary": 1.0}, dropout=0.0).eval(), make_batch(tokenizer)
    optimizer = torch.optim.Adam(model.predictor.parameters(), 1e-2)
    before = model.loss(batch).parts["boundary"]
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(batch).total.backward()
        optimizer.step()
    assert model.loss(batch).parts["boundary"] < 0.5 * before


@pytest.mark.parametrize("encoder", [CONFORMER, {"kind": "zipformer", "preset": "toy"}], ids=lambda e: e["kind"])
def test_ctc_heads_half_way_up(encoder, tokenizer):
    batch, share = make_batch(tokenizer), {"ctc": 0.5, "intermediate": 0.4}
    model = build(tokenizer, encoder=encoder, loss=share, intermediate_ctc={"after": [0, 1]}).train()
    assert set(model.intermediate.heads) == set(model.intermediate.conditioning) == {"0", "1"}
    out = model.loss(batch)
    expected = out.parts["cross_entropy"] + out.parts["quantity"] + 0.5 * (0.6 * out.parts["ctc"] + 0.4 * out.parts["intermediate"])
    torch.testing.assert_close(out.total.detach(), expected)
    out.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.intermediate.parameters())
    states = model.eval().encode(batch)[0]
    with torch.no_grad():
        model.intermediate.conditioning["1"].weight.zero_()
    assert (model.encode(batch)[0] - states).abs().max() > 1e-3
    with pytest.raises(ValueError, match="model.intermediate_ctc.after: 9 is beyond the encoder's last stack or layer"):
        build(tokenizer, encoder=encoder, loss=share, intermediate_ctc={"after": [9]})


def test_mistakes_are_named(tokenizer):
    with pytest.raises(ConfigError, match="boundary: it needs the auxiliary CTC head, and with ctc 0 there is none"):
        setup(loss={"boundary": 0.3, "ctc": 0.0})
    with pytest.raises(ConfigError, match="intermediate: it needs the auxiliary CTC head"):
        setup(loss={"intermediate": 0.3, "ctc": 0.0}, intermediate_ctc={"after": [0]})
    with pytest.raises(ConfigError, match="boundary_start: -1 is negative"):
        setup(loss={"boundary_start": -1})
    with pytest.raises(ConfigError, match="loss.intermediate: above 0 it needs intermediate_ctc.after"):
        setup(loss={"intermediate": 0.3})
    with pytest.raises(ConfigError, match="quantity: with 0 nothing teaches"):
        setup(loss={"quantity": 0.0})
    with pytest.raises(ConfigError, match="stride: 5 is not between 1 and stack, 4"):
        setup(front_end={**STACKED, "stride": 5})
    recognizer = Recognizer(build(tokenizer).eval(), tokenizer)
    with pytest.raises(ValueError, match="features of 9 values per frame, and the model was made for 8"):
        recognizer.recognize(make_batch(tokenizer, bins=9))
    with pytest.raises(ValueError, match="method joint needs an attention decoder, and this model has none; use greedy, guided, beam"):
        recognizer.recognize(make_batch(tokenizer), SearchOptions("joint"))


def test_checkpoint_describes_itself(tokenizer, tmp_path):
    made = setup()
    model = made.build_model(tokenizer.size).eval()
    extra = [lambda d: configuration.save(made.as_mapping(), d / "config.yaml"), lambda d: tokenizer.save(d / "tokenizer.model")]
    written = write_checkpoint(tmp_path, model, {"step": 1}, save_extra=lambda d: [write(d) for write in extra])
    loaded, batch = load_checkpoint(written.path), make_batch(tokenizer)
    for a, b in zip(loaded.model.predict(*loaded.model.encode(batch)[:2]), model.predict(*model.encode(batch)[:2])):
        torch.testing.assert_close(a, b)


def test_it_learns_two_utterances_by_heart(tokenizer):
    model = build(tokenizer, dropout=0.0, loss={"label_smoothing": 0.0}, glancing={"start": 0.5, "end": 0.0, "steps": 60}).train()
    batch = make_batch(tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(120):
        model.set_step(step)
        optimizer.zero_grad()
        model.loss(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    found = Recognizer(model.eval(), tokenizer).recognize(batch, SearchOptions())
    assert [h.text for h in found] == batch.texts


def test_bfloat16_trains_as_float32_does(tokenizer):
    model, batch = build(tokenizer, glancing={"start": 0.0, "end": 0.0}, dropout=0.0).eval(), make_batch(tokenizer)
    exact = model.loss(batch).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(batch).total
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=5e-2, atol=5e-2)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_first_pass_leaves_no_casts_to_the_second(tokenizer):
    """What autocast keeps of a pass without gradients, older torch gives to the pass that needs them, and the decoder is not trained."""
    model, passes = build(tokenizer).train(), []
    model.decoder.register_forward_pre_hook(lambda *_: passes.append((torch.is_grad_enabled(), torch.is_autocast_cache_enabled())))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(make_batch(tokenizer)).total
        assert torch.is_autocast_cache_enabled()
    assert passes == [(False, False), (True, True)]
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_every_configuration_of_the_recipes_builds(repository):
    from voxkit.hub import shape_only
    from voxkit.run_config import load_setup

    files = sorted(repository.glob("egs/*/paraformer/conf/*.yaml"))
    assert len(files) >= 6
    for file in files:
        if file.name == "continued.yaml":  # laid over another: below
            continue
        pretrained = "mini_pretrained" in file.name
        checked = load_setup(file, ["model.front_end.pretrained.name=openai/whisper-base"] if pretrained else [])
        with shape_only():
            assert checked.build_model(500).seconds_per_frame > 0


def test_what_comes_from_a_trained_model_learns_at_a_fifth_of_the_rate(repository):
    from voxkit.hub import shape_only

    conf = repository / "egs/librispeech/paraformer/conf"
    config = configuration.overlay([conf / "mini_pretrained.yaml", conf / "continued.yaml"], ["init=exp/stage2"])
    checked = make_setup(config)
    with shape_only():
        model = checked.build_model(300)
    train = checked.config.train
    groups = parameter_groups(model, train.optimizer, train.groups)
    rates = {(name.split(".")[0], round(group["lr"] / train.optimizer.lr, 6)) for group in groups for name in group["names"]}
    assert rates == {*((part, 0.2) for part in checked.config.init_parts), ("predictor", 1.0), ("decoder", 1.0)}
