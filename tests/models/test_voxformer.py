"""VoxFormer whole: padding, cached states, stages that build on one another, checkpoints that describe themselves."""

import pytest
import torch

from tests.encoders import tiny
from voxkit import config as configuration
from voxkit.batch import Batch, Padded, audio_batch
from voxkit.checkpoint.format import write_checkpoint
from voxkit.config import ConfigError
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.models import voxformer
from voxkit.models.sizes import count_parameters
from voxkit.run_config import make_setup
from voxkit.system import find_system
from voxkit.text.sentencepiece import train_characters
from voxkit.training.initialize import initialize


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return str(tiny.save_model("whisper", tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_characters(["heal me now", "push the left lane"], tmp_path_factory.mktemp("tokens"))


def setup(front_end: dict, **model):
    return make_setup(configuration.merge(configuration.OmegaConf.create({"model": {
        "front_end": front_end, "encoder": {"preset": "toy"}, "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}, **model}}), []))


def pretrained(encoder: str, **options) -> dict:
    return {"kind": "pretrained", "pretrained": {"name": encoder, **options}, "adapter_hidden": 24, "adapter_dim": 24}


def make_batch(tokenizer) -> Batch:
    torch.manual_seed(3)
    texts = ["heal me now", "push"]
    tokens = [torch.tensor(tokenizer.encode(t)) for t in texts]
    return Batch(["a", "b"], audio=Padded(torch.randn(2, 24000) * 0.1, torch.tensor([24000, 14000])), texts=texts,
                 tokens=Padded.of(tokens))


@pytest.mark.parametrize("kind", ["pretrained", "fbank"])
def test_padding_never_matters(kind, encoder, tokenizer):
    torch.manual_seed(0)
    model = setup(pretrained(encoder) if kind == "pretrained" else {"kind": "fbank"}).build_model(tokenizer.size).eval()
    batch = make_batch(tokenizer)
    with torch.no_grad():
        states, lengths = model.encode(batch)[:2]
        alone, alone_lengths = model.encode(batch.take(slice(1, 2)))[:2]
    assert lengths[1] == alone_lengths[0]
    n = int(alone_lengths[0])
    torch.testing.assert_close(states[1, :n], alone[0, :n], atol=2e-4, rtol=1e-3)


def test_cached_states_give_what_audio_gives(encoder, tokenizer):
    torch.manual_seed(0)
    model = setup(pretrained(encoder, unfreeze=[4])).build_model(tokenizer.size).eval()
    batch = make_batch(tokenizer)
    states, lengths = model.front_end.pretrained.encode(batch.audio.values, batch.audio.lengths)
    cached = Batch(batch.ids, states=Padded(states.transpose(1, 2), lengths), texts=batch.texts, tokens=batch.tokens)
    torch.testing.assert_close(model.loss(batch).total, model.loss(cached).total)


def test_only_what_is_open_learns_and_is_saved(encoder, tokenizer):
    model = setup(pretrained(encoder, unfreeze=[4])).build_model(tokenizer.size)
    model.loss(make_batch(tokenizer)).total.backward()
    kept = model.checkpoint_state_dict()
    for name, parameter in model.named_parameters():
        if name.endswith("unused_scale"):  # kept for icefall's checkpoints
            continue
        frozen = name.startswith("front_end.pretrained.") and ".layers.3." not in name and "last_norm" not in name
        assert (parameter.grad is None) == frozen, name
        assert (name in kept) != frozen, name


def test_the_next_stage_starts_where_the_last_one_ended(encoder, tokenizer, tmp_path):
    torch.manual_seed(0)
    first = setup(pretrained(encoder))
    model = first.build_model(tokenizer.size).eval()
    path = save(tmp_path / "one", first, model, tokenizer)
    torch.manual_seed(1)
    second = setup(pretrained(encoder, unfreeze=[3, 4])).build_model(tokenizer.size).eval()
    initialize(second, str(path), tokenizer)
    batch = make_batch(tokenizer)
    torch.testing.assert_close(model.loss(batch).total, second.loss(batch).total)
    assert second.schedule_offset == 1
    other = train_characters(["another alphabet zyx"], tmp_path / "other")
    with pytest.raises(ValueError, match="another tokenizer"):
        initialize(second, str(path), other)


def test_parts_of_another_system_can_be_taken(encoder, tokenizer, tmp_path):
    torch.manual_seed(0)
    first = setup(pretrained(encoder))
    model = first.build_model(tokenizer.size).eval()
    path = str(save(tmp_path / "one", first, model, tokenizer))
    other_tokenizer = train_characters(["another alphabet zyx"], tmp_path / "other")
    torch.manual_seed(1)
    options = {**first.config.model, "encoder": {"kind": "zipformer", **first.config.model["encoder"]}}
    options = {"system": "paraformer", "model": {key: options[key] for key in ("front_end", "encoder")}}
    paraformer = make_setup(configuration.OmegaConf.create(options)).build_model(other_tokenizer.size).eval()
    initialize(paraformer, path, other_tokenizer, ["front_end", "encoder"])
    batch = make_batch(tokenizer)
    torch.testing.assert_close(paraformer.encode(batch)[0], model.encode(batch)[0])
    with torch.no_grad():
        next(paraformer.encoder.parameters()).add_(1)
    initialize(paraformer, path, other_tokenizer, ["encoder"])
    torch.testing.assert_close(paraformer.encode(batch)[0], model.encode(batch)[0])
    inner = next(name for name, _ in model.encoder.named_parameters()).split(".")[0]
    initialize(paraformer, path, other_tokenizer, [f"encoder.{inner}"])
    with pytest.raises(configuration.ConfigError, match=r"init_parts: \['encoder'\] of what"):
        make_setup(configuration.OmegaConf.create({"init_parts": ["encoder"]}))
    with pytest.raises(ValueError, match="another tokenizer.*take only what knows no pieces"):
        initialize(paraformer, path, other_tokenizer, ["encoder", "ctc"])
    with pytest.raises(ValueError, match="init_parts: .*one.* has no weights of 'predictor'; parts of this model: front_end, encoder"):
        initialize(paraformer, path, tokenizer, ["predictor"])


def test_a_self_conditioned_encoder_can_be_taken(encoder, tokenizer, tmp_path):
    torch.manual_seed(0)
    heads = {"loss": {"intermediate": 0.3}, "intermediate_ctc": {"after": [0, 2]}}
    first = setup(pretrained(encoder), **heads)
    model = first.build_model(tokenizer.size).eval()
    path = str(save(tmp_path / "one", first, model, tokenizer))
    torch.manual_seed(1)
    options = {"front_end": first.config.model["front_end"], "encoder": {"kind": "zipformer", **first.config.model["encoder"]}, **heads}
    made = make_setup(configuration.OmegaConf.create({"system": "paraformer", "model": options}))
    paraformer = made.build_model(tokenizer.size).eval()
    initialize(paraformer, path, tokenizer, ["front_end", "encoder", "intermediate", "ctc"])
    batch = make_batch(tokenizer)
    states = paraformer.encode(batch).states
    torch.testing.assert_close(states, model.encode(batch)[0])
    torch.testing.assert_close(paraformer.ctc_log_probs(states), model.ctc_log_probs(states))


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "attention", "joint", "rescoring"])
def test_a_checkpoint_describes_itself(method, encoder, tokenizer, tmp_path):
    torch.manual_seed(0)
    made = setup(pretrained(encoder))
    model = made.build_model(tokenizer.size).eval()
    path = save(tmp_path / "run", made, model, tokenizer)
    loaded = load_checkpoint(path)
    batch = make_batch(tokenizer)
    torch.testing.assert_close(loaded.model.encode(batch)[0], model.encode(batch)[0])
    hypotheses = Recognizer(loaded.model, loaded.vocabulary).recognize(batch, SearchOptions(method, beam=4, words=True))
    assert len(hypotheses) == 2 and hypotheses[0].audio_duration == 1.5
    for h in hypotheses:
        assert not h.words or 3 in h.tokens or " ".join(w.word for w in h.words) == h.text
        assert all(0 <= w.start <= w.end <= h.audio_duration + 1e-6 and 0 <= w.confidence <= 1 for w in h.words)
    alone = Recognizer.load(path).transcribe(batch.audio.values[1, :14000], SearchOptions(method, beam=4))
    assert alone.text == hypotheses[1].text


def test_without_a_decoder_only_ctc_can_search(tokenizer):
    ctc_alone = {"attention": 0, "start_attention": 0, "ctc": 1, "start_ctc": 1}
    model = setup({"kind": "fbank"}, loss=ctc_alone).build_model(tokenizer.size)
    assert model.decoder is None
    losses = model.loss(make_batch(tokenizer))
    torch.testing.assert_close(losses.total, losses.parts["ctc"])
    with pytest.raises(ValueError, match="joint needs an attention decoder"):
        Recognizer(model.eval(), tokenizer).recognize(make_batch(tokenizer), SearchOptions("joint"))


@pytest.mark.parametrize("kind", ["pretrained", "fbank", "stacked"])
def test_two_views_are_the_batch_twice_each_masked_by_itself(kind, encoder, tokenizer):
    torch.manual_seed(0)
    masks = {"state_mask": {"prob": 1.0}, "spec_augment": {"prob": 1.0, "time_warp": 0}}
    model = setup({**pretrained(encoder), **masks, "kind": kind}, loss={"consistency": 0.2}).build_model(tokenizer.size)
    batch = make_batch(tokenizer)
    one, lengths = model.front_end.eval()(batch)
    two, twice = model.front_end(batch, views=2)
    torch.testing.assert_close(two, torch.cat([one, one]))
    assert twice.tolist() == lengths.tolist() * 2
    model.front_end.train()
    two, _ = model.front_end(batch, views=2)
    assert (two[:2] - two[2:]).abs().max() > 0.1


def test_views_are_masked_inside_an_encoder_that_learns(encoder, tokenizer):
    """Where spans are masked before the open layers, these run for each view, and the loss is taken over both."""
    torch.manual_seed(0)
    inside = pretrained(encoder, unfreeze=[4], dropout=0.0, mask_time_prob=0.3, mask_time_length=3)
    model = setup({**inside, "state_mask": {"prob": 0.0}, "adapter_dropout": 0.0},
                  loss={"consistency": 0.2, "warmup_steps": 0}).build_model(tokenizer.size)
    batch = make_batch(tokenizer)
    two, lengths = model.front_end(batch, views=2)
    assert lengths.tolist() == 2 * [75, 44] and (two[:2] - two[2:]).abs().max() > 0.1
    losses = model.loss(batch)
    losses.total.backward()
    assert losses.parts["consistency"] > 0 and model.front_end.pretrained.backbone.layers[3].fc1.weight.grad.abs().max() > 0
    once, lengths = model.eval().encode(batch)[:2]
    assert once.shape[:2] == (2, 38) and lengths.tolist() == [38, 22]


def test_views_may_share_the_spans_inside_the_encoder(encoder):
    """Then the open layers run once, and the mix is the same for both views; behind it each is masked on its own."""
    torch.manual_seed(0)
    inside = pretrained(encoder, unfreeze=[4], dropout=0.0, mask_time_prob=0.3, mask_time_length=3, mask_time_shared=True)
    front_end = setup({**inside, "adapter_dropout": 0.0}).build_model(10).front_end
    batch, runs, mixed = audio_batch(torch.randn(24000)), [], []
    front_end.pretrained.backbone.layers[3].register_forward_hook(lambda *_: runs.append(1))
    front_end.mask.register_forward_hook(lambda _, given, __: mixed.append(given[0]))
    two, lengths = front_end(batch, views=2)
    assert len(runs) == 1 and lengths.tolist() == 2 * [75]
    assert torch.equal(mixed[0][0], mixed[0][1]) and (two[0] - two[1]).abs().max() > 0.1
    front_end(batch, views=2)
    assert (mixed[0] - mixed[1]).abs().max() > 0.1, "the spans should be drawn anew for each batch"


def test_consistency_is_added_in_training_alone(encoder, tokenizer):
    torch.manual_seed(0)
    model = setup(pretrained(encoder), loss={"consistency": 0.2, "warmup_steps": 0}).build_model(tokenizer.size)
    batch = make_batch(tokenizer)
    losses = model.loss(batch)
    assert losses.parts["consistency"] > 0
    expected = 0.3 * losses.parts["ctc"] + 0.7 * losses.parts["attention"] + 0.2 * losses.parts["consistency"]
    torch.testing.assert_close(losses.total.detach(), expected)
    losses.total.backward()
    assert "consistency" not in model.eval().loss(batch).parts


def test_wrong_options_are_named(encoder):
    with pytest.raises(ConfigError, match="model.front_end.kind.*fbank"):
        setup({"kind": "mfcc"})
    with pytest.raises(ConfigError, match="did you mean 'kernel'"):
        setup({"kind": "fbank"}, encoder={"preset": "toy", "kernal": 3}).build_model(10)
    with pytest.raises(ValueError, match="vocab_size"):
        setup({"kind": "fbank"}).build_model()
    with pytest.raises(ValueError, match="'voxfromer' is none of voxformer"):
        find_system("voxfromer")


def test_counts_add_up(encoder, tokenizer):
    model = setup(pretrained(encoder)).build_model(tokenizer.size)
    *parts, total = count_parameters(model)
    assert total[1] == sum(row[1] for row in parts) == sum(p.numel() for p in model.parameters())
    assert {row[0]: row[2] for row in parts}["front_end.pretrained"] == 0


def save(folder, made, model, tokenizer):
    def extra(directory):
        configuration.save(made.as_mapping(), directory / "config.yaml")
        tokenizer.save(directory / "tokenizer.model")

    return write_checkpoint(folder, model, {"step": 1, "tokenizer": tokenizer.fingerprint()}, save_extra=extra).path


def test_activation_checkpointing_changes_memory_not_gradients(encoder, tokenizer):
    grads = []
    for on in (False, True):
        torch.manual_seed(0)
        made = setup(pretrained(encoder, unfreeze=[4], dropout=0.0, attention_dropout=0.0, activation_dropout=0.0),
                      dropout=0.0, decoder={"dim": 16, "heads": 2, "ffn": 32, "layers": 1, "dropout": 0.0})
        model = made.build_model(tokenizer.size)
        if on:
            model.enable_activation_checkpointing()
        torch.manual_seed(5)
        model.loss(make_batch(tokenizer)).total.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name in ("front_end.adapter.1.weight", "ctc.weight"):
        torch.testing.assert_close(grads[0][name], grads[1][name], atol=1e-5, rtol=1e-4)


def test_every_configuration_of_the_recipes_builds(repository):
    from voxkit.hub import shape_only
    from voxkit.run_config import load_setup

    files = sorted(repository.glob("egs/*/*/conf/*stage*.yaml"))
    assert files
    for file in files:
        checked = load_setup(file, ["model.front_end.pretrained.name=openai/whisper-base"] if "mini" in file.name else [])
        if "toy" not in str(file):  # its encoder is made by the recipe
            with shape_only():
                checked.build_model(500)


def test_minimum_word_error_training(tokenizer, monkeypatch):
    torch.manual_seed(0)
    model = setup({"kind": "fbank"}, loss={"mwer": 1.0, "mwer_nbest": 3}).build_model(tokenizer.size).train()
    batch = make_batch(tokenizer)
    lists, find_nbest = [], voxformer.nbest_tokens

    def nbest(log_probs, lengths, count):
        lists.append(find_nbest(log_probs, lengths, count))
        return lists[-1]

    monkeypatch.setattr(voxformer, "nbest_tokens", nbest)
    model.begin_training(tokenizer)
    losses = model.loss(batch)
    assert len(lists[0]) == 2 and max(map(len, lists[0])) == 3
    plain = model.config.loss.weights(0)
    expected = plain[0] * losses.parts["ctc"] + plain[1] * losses.parts["attention"] + losses.parts["mwer"]
    torch.testing.assert_close(losses.total.detach(), expected)
    losses.total.backward()
    assert model.ctc.weight.grad.abs().sum() > 0
    model.eval()
    assert "mwer" not in model.loss(batch).parts
