"""VoxLM's losses and decoder: against transformers, against single utterances, phase by phase."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tests.models.tiny_voxlm import SENTENCES, config_of, make_batch, make_voxlm, vocabulary_of  # noqa: E402
from voxkit.batch import Batch, Padded  # noqa: E402
from voxkit.config import ConfigError, structure  # noqa: E402
from voxkit.models.voxlm import SpellingConfig, VoxLM, VoxLMConfig, VoxLMLossConfig, word_spans  # noqa: E402
from voxkit.search.attention import attention_beam  # noqa: E402
from voxkit.search.generation import generate  # noqa: E402
from voxkit.text.prompt import Request  # noqa: E402

ALL = VoxLMLossConfig(ctc=0.5, transcript=1.0, alignment=0.25)
EVERY = ["front_end", "encoder", "ctc", "projector", "llm", "alignment"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("voxlm")


@pytest.mark.parametrize("kind", ["lexical", "stack"])
@pytest.mark.parametrize("family", ["qwen2", "gemma3_text"])
def test_the_losses_of_a_batch_are_those_of_its_utterances(folder, family, kind):
    model = make_voxlm(folder, family, kind, loss=ALL).eval()
    batch = make_batch(model.vocabulary, [*SENTENCES, ""], spans=True)
    with torch.no_grad():
        together = model.loss(batch)
        alone = [model.loss(batch.take(slice(n, n + 1))) for n in range(4)]
    assert together.parts.keys() == {"ctc", "transcript", "alignment"}
    for name in together.parts:
        whole = sum(one.parts[name] * one.weight for one in alone)
        torch.testing.assert_close(together.parts[name] * together.weight, whole, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(together.total, sum(getattr(ALL, name) * value for name, value in together.parts.items()))


@pytest.mark.parametrize("chat", [False, True])
def test_the_transcript_costs_what_transformers_says(folder, chat):
    """Prompt, audio, prompt, transcript, end by hand, all logits at once, over the candidates."""
    model = make_voxlm(folder, "llama", chat=chat, loss=VoxLMLossConfig(ctc=0.0)).eval()
    batch = make_batch(model.vocabulary, SENTENCES[:1])
    ids = torch.tensor([*model.vocabulary.model_ids])
    with torch.no_grad():
        encoded = model.encode(batch)
        projected = model.project(encoded.states, encoded.lengths)
        tokens = batch.tokens.values[0]
        embed = model.llm.model.get_input_embeddings()
        row = torch.cat([embed(torch.tensor(model.prompt.before())), projected.embeddings[0], embed(torch.tensor(model.prompt.after)),
                         embed(ids[tokens])])
        logits = model.llm.model(inputs_embeds=row[None]).logits[0, -len(tokens) - 1:, ids[1:]].float()
        expected = torch.nn.functional.cross_entropy(logits, torch.cat([tokens, torch.tensor([1])]) - 1, reduction="sum")
        losses = model.loss(batch)
    torch.testing.assert_close(losses.total * losses.weight, expected, atol=1e-3, rtol=1e-4)
    assert projected.lengths[0] > 2


def test_generation_says_what_transformers_generate_says(folder):
    model = make_voxlm(folder, "qwen2").eval()
    batch = make_batch(model.vocabulary)
    encoded = model.encode(batch)
    with torch.no_grad():
        found = generate(model.speaker(), encoded.states, encoded.lengths, torch.tensor([12, 12, 12]), forbidden=(0,))
        projected = model.project(encoded.states, encoded.lengths)
        candidates = torch.tensor(sorted(set(model.vocabulary.model_ids)))

        def only_candidates(_, scores):
            return scores.index_fill(1, torch.tensor([i for i in range(scores.shape[1]) if i not in set(candidates.tolist())]), -torch.inf)

        for n in range(3):
            embed = model.llm.model.get_input_embeddings()
            row = torch.cat([embed(torch.tensor(model.prompt.before())), projected.embeddings[n, :projected.lengths[n]],
                             embed(torch.tensor(model.prompt.after))])
            said = model.llm.model.generate(inputs_embeds=row[None], attention_mask=torch.ones(1, len(row)), max_new_tokens=12,
                                            do_sample=False, eos_token_id=model.vocabulary.base.eos, pad_token_id=0,
                                            logits_processor=[only_candidates])[0].tolist()
            own = [model.vocabulary.model_ids[t] for t in found[n].tokens] + [model.vocabulary.base.eos] * (found[n].ended == "end")
            assert own == said


def test_a_beam_and_scores_agree_with_one_pass_over_the_text(folder):
    model = make_voxlm(folder, "gemma3_text").eval()
    batch = make_batch(model.vocabulary)
    encoded = model.encode(batch)
    with torch.no_grad():
        ctc = model.ctc_log_probs(encoded.states)
        assert ctc.shape[2] == model.vocabulary.size and (ctc[..., model.vocabulary.heard:] < -1000).all()
        found = attention_beam(model.speaker(), encoded.states, encoded.lengths, 3, blank=0, nbest=2, ctc_log_probs=ctc,
                               ctc_weight=0.3, max_tokens_per_frame=0.2)
        for n, nbest in enumerate(found):
            for hypothesis in nbest:
                tokens = torch.tensor([hypothesis.tokens], dtype=torch.long).view(1, -1)
                examined = model.speaker().examine(encoded.states[n:n + 1, :encoded.lengths[n]], encoded.lengths[n:n + 1], tokens,
                                                 torch.tensor([tokens.shape[1]]))
                assert float(examined.log_probs.sum()) == pytest.approx(hypothesis.parts["attention"], abs=2e-3)
                assert examined.log_probs[0, :-1].tolist() == pytest.approx(hypothesis.token_log_probs, abs=1e-3)
                assert (examined.entropies >= 0).all()
        best = [row[0].tokens for row in found]
        tokens = Padded.of([torch.tensor(t, dtype=torch.long) for t in best])
        together = model.speaker().score(encoded.states, encoded.lengths, tokens.values[:, None], tokens.lengths[:, None])[:, 0]
        torch.testing.assert_close(together, torch.tensor([row[0].parts["attention"] for row in found]), atol=2e-3, rtol=1e-4)


def test_prompts_are_each_utterances_own(folder):
    model = make_voxlm(folder, "qwen2").eval()
    batch = make_batch(model.vocabulary)
    encoded = model.encode(batch)
    prompts = [model.prompt.before(Request(phrases=phrases)) for phrases in ((), ("BRIDGE", "RIVER"), ("AMMO",))]
    with torch.no_grad():
        together = generate(model.speaker(prompts), encoded.states, encoded.lengths, torch.tensor([6] * 3), forbidden=(0,))
        for n, one in enumerate(together):
            alone = generate(model.speaker(prompts[n:n + 1]), encoded.states[n:n + 1, :encoded.lengths[n]], encoded.lengths[n:n + 1],
                             torch.tensor([6]), forbidden=(0,))[0]
            assert alone.tokens == one.tokens and alone.score == pytest.approx(one.score, abs=1e-3)
    batch.prompt = Padded.of([torch.tensor(ids) for ids in prompts])
    plain = make_batch(model.vocabulary)
    assert float(model.loss(batch).total) != pytest.approx(float(model.loss(plain).total), abs=1e-4)
    assert float(model.loss(batch.take(slice(0, 1))).total) == pytest.approx(float(model.loss(plain.take(slice(0, 1))).total), abs=1e-5)


def test_text_alone_trains_the_language_model(folder):
    model = make_voxlm(folder, "llama", loss=VoxLMLossConfig(ctc=0.0), learns=["llm"], spelling=SpellingConfig(0.3, 0.2))
    batch = Batch(["a", "b"], tokens=make_batch(model.vocabulary, SENTENCES[:2]).tokens, texts=SENTENCES[:2])
    torch.manual_seed(3)
    first = model.loss(batch).total
    first.backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning and all(name.startswith("llm.") and ".lora_" in name for name in learning)
    assert float(model.loss(batch).total) != first.item()  # other errors
    torch.manual_seed(3)
    assert float(model.loss(batch).total) == first.item()  # the state of the generator decides
    model.eval()
    assert float(model.loss(batch).total) == float(model.loss(batch).total)  # without errors


@pytest.mark.parametrize("learns, loss", [(["front_end", "encoder", "ctc"], VoxLMLossConfig(ctc=1.0, transcript=0.0)),
                                          (["encoder", "llm"], VoxLMLossConfig()),
                                          (["alignment"], VoxLMLossConfig(ctc=0.0, transcript=0.0, alignment=1.0))])
def test_only_what_learns_gets_gradients_and_only_that_is_in_training(folder, learns, loss):
    model = make_voxlm(folder, "qwen2", loss=loss, learns=learns).train()
    model.loss(make_batch(model.vocabulary, spans=True)).total.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == set(learns)
    assert {name for name in EVERY if getattr(model, name).training} == set(learns)


def test_checkpoints_leave_out_the_language_model_and_hold_what_learns(folder):
    model = make_voxlm(folder, "qwen2", learns=EVERY)
    held = model.checkpoint_state_dict()
    assert not any(name.startswith("llm.") and ".lora_" not in name for name in held)
    assert {name for name, p in model.named_parameters() if p.requires_grad} <= set(held)
    other = make_voxlm(folder, "qwen2", learns=EVERY)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in held:
                parameter.add_(0.1)
    missing, unexpected = other.load_state_dict(held, strict=False)
    assert not unexpected and set(missing) == model.frozen_names()
    batch = make_batch(model.vocabulary)
    with torch.no_grad():
        assert float(other.eval().loss(batch).total) == float(model.eval().loss(batch).total)


def test_words_out_of_token_spans():
    nan = float("nan")
    spans = Padded(torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.5, 2.0], [2.0, 2.5]], [[nan, nan], [nan, nan], [0, 0], [0, 0]]]),
                   torch.tensor([4, 2]))
    words, places = word_spans(spans)
    assert words.tolist() == [[0, 0, 1, 2], [0, 1, -1, -1]]
    assert places[0].tolist() == [[0.0, 1.0], [1.5, 2.0], [2.0, 2.5]] and places[1].isnan().all()


def test_word_times_that_are_not_there_are_named(folder):
    model = make_voxlm(folder, loss=VoxLMLossConfig(alignment=1.0))
    with pytest.raises(ValueError, match="--out-cuts"):
        model.loss(make_batch(model.vocabulary))
    with pytest.raises(ValueError, match="no transcripts"):
        model.loss(Batch(["a"], audio=Padded(torch.zeros(1, 16000), torch.tensor([16000]))))
    stack = make_voxlm(folder, kind="stack")
    with pytest.raises(ValueError, match="lexical"):
        stack.loss(Batch(["a"], tokens=Padded.of([torch.tensor([3])]), texts=["A"]))


def test_configurations_that_cannot_be_are_named(folder):
    with pytest.raises(ConfigError, match="learns: 'decoder' is none of"):
        structure(VoxLMConfig, {"learns": ["decoder"]}, "model")
    with pytest.raises(ConfigError, match="nothing would be trained"):
        structure(VoxLMConfig, {"loss": {"ctc": 0, "transcript": 0}}, "model")
    with pytest.raises(ConfigError, match="not all numbers"):
        structure(VoxLMConfig, {"loss": {"ctc": float("nan")}}, "model")
    with pytest.raises(ValueError, match="belong together"):
        VoxLM(config_of(folder / "qwen2", vocab_size=17), vocabulary_of(folder / "qwen2"))
