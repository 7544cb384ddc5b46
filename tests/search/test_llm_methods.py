"""A language model that reads audio, as a search: it is told, read again, and stopped where it says what nobody said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tests.models.tiny_voxlm import make_batch, make_voxlm  # noqa: E402
from voxkit.infer.recognizer import Recognizer  # noqa: E402
from voxkit.search.greedy import ctc_greedy  # noqa: E402
from voxkit.search.hallucination import StopRule  # noqa: E402
from voxkit.search.heads import Heard  # noqa: E402
from voxkit.search.llm_methods import generate  # noqa: E402
from voxkit.search.options import SearchOptions  # noqa: E402
from voxkit.text.prompt import Request  # noqa: E402

GENTLE = StopRule(silence=0.0, length_factor=1.0, repeats=50, coverage=0.0, entropy=1e9)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_voxlm(tmp_path_factory.mktemp("voxlm"), "qwen2").eval()


class Wrapped:
    """A speaker with something of its own."""

    bos, eos = 0, 1

    def __init__(self, speaker) -> None:
        self.speaker = speaker

    def __getattr__(self, name):
        return getattr(self.speaker, name)


@dataclass
class Counted:
    inner: object
    count: int = 0

    def select(self, index):
        return Counted(self.inner.select(index), self.count)


class Brief(Wrapped):
    """Ends behind four tokens and not before, where a random model seldom does."""

    def prompted(self, request, count):
        return Brief(self.speaker.prompted(request, count))

    def init_state(self, memory, lengths):
        return Counted(self.speaker.init_state(memory, lengths))

    def step(self, tokens, state):
        log_probs, inner = self.speaker.step(tokens, state.inner)
        log_probs = log_probs.clone()
        log_probs[:, 1] = 0.0 if state.count == 4 else -torch.inf
        return log_probs, Counted(inner, state.count + 1)


class Deaf(Brief):
    """Finds no frame for any word."""

    def align(self, text, words, states, lengths):
        out = torch.full((len(words), int(words.max()) + 2, states.shape[1]), 0.01)
        out[:, 0] = 0.9
        return out.log()


def heard_of(model, wrap=Brief) -> Heard:
    with torch.no_grad():
        encoded = model.encode(make_batch(model.vocabulary))
    return Heard(replace(model.heads, llm=wrap(model.heads.llm)), encoded.states, encoded.lengths)


def say(model, heard, **options):
    with torch.no_grad():
        return [row[0] for row in generate(heard, SearchOptions(method="generate", **options), model.vocabulary)]


def test_scores_are_exact_and_the_same_for_one_utterance_alone(model):
    heard = heard_of(model)
    together = say(model, heard, stop=GENTLE)
    assert any(one.tokens for one in together)
    for n, one in enumerate(together):
        alone = say(model, Heard(heard.heads, heard.states[n:n + 1, :heard.lengths[n]], heard.lengths[n:n + 1]), stop=GENTLE)[0]
        assert alone.tokens == one.tokens and alone.stopped == one.stopped
        assert alone.token_log_probs == pytest.approx(one.token_log_probs, abs=1e-3)
        assert alone.entropies == pytest.approx(one.entropies, abs=1e-3)


def test_what_is_stopped_gives_way_to_ctc_or_to_nothing(model):
    heard = heard_of(model)
    by_ctc = ctc_greedy(heard.ctc, heard.lengths, 0)
    plain = say(model, heard, stop=GENTLE)
    assert any(one.tokens and not one.stopped for one in plain)
    for rule, reason in ((replace(GENTLE, silence=1e9), "silence"), (replace(GENTLE, length_factor=1e-6, length_spare=1), "length"),
                         (replace(GENTLE, entropy=1e-9), "entropy")):
        found = say(model, heard, stop=rule)
        assert reason in {one.stopped for one in found}
        for one, before, ctc in zip(found, plain, by_ctc):
            if one.stopped:
                assert one.tokens == ([] if one.stopped == "silence" else ctc.tokens) and one.placed is None
            else:
                assert one.tokens == before.tokens


def test_words_that_no_frame_belongs_to_are_stopped(model):
    rule = replace(GENTLE, coverage=0.5)
    for one, plain in zip(say(model, heard_of(model, Deaf), stop=rule), say(model, heard_of(model), stop=rule)):
        assert one.stopped == ("coverage" if plain.tokens and not plain.stopped else plain.stopped)


def test_a_prompt_changes_what_is_said_and_stays_out_of_it(model):
    heard = heard_of(model)
    told = say(model, heard, stop=GENTLE, prompt=Request(phrases=("ZERG", "CREEP")))
    plain = say(model, heard, stop=GENTLE)
    assert [one.score for one in told] != [one.score for one in plain]
    ended = [one for one in told if not one.stopped]
    assert ended and not any("ZERG" in model.vocabulary.decode(one.tokens) for one in ended)


def test_without_a_rule_everything_is_believed_up_to_a_token_a_frame(model):
    heard = heard_of(model, Wrapped)
    for one, frames in zip(say(model, heard, stop=None), heard.lengths.tolist()):
        assert one.stopped == "" and len(one.tokens) <= frames


def test_the_recognizer_times_every_word_and_marks_what_was_stopped(model):
    with torch.no_grad():
        model.alignment.learned.fill_(True)
    recognizer = Recognizer(model, model.vocabulary)
    options = SearchOptions(method="generate", words=True, stop=GENTLE)
    batch = make_batch(model.vocabulary)
    found = recognizer.recognize(batch, options)
    assert any(h.words for h in found)
    for n, h in enumerate(found):
        if not h.stopped:
            assert [w.word for w in h.words] == [w for w, _ in model.vocabulary.words(h.tokens)] or len(h.words) == 0
        assert all(w.end > w.start for w in h.words) and all(0 <= w.confidence <= 1 for w in h.words)
        assert all(b.start >= a.end - 1e-6 for a, b in zip(h.words, h.words[1:]))
        assert not h.words or 0 <= h.words[0].start and h.words[-1].end <= h.audio_duration + 1e-6
        alone = recognizer.recognize(batch.take(slice(n, n + 1)), options)[0]
        assert alone.text == h.text
        for a, b in zip(alone.words, h.words):
            assert (a.start, a.end) == pytest.approx((b.start, b.end), abs=1e-3)
    quiet = recognizer.recognize(batch, replace(options, stop=replace(GENTLE, silence=1e9)))
    assert [h.text for h in quiet] == [""] * 3 and {h.stopped for h in quiet} == {"silence"}
    model.alignment.learned.fill_(False)


def test_methods_of_the_model(model):
    recognizer = Recognizer(model, model.vocabulary)
    assert {"greedy", "prefix_beam", "attention", "joint", "rescoring", "generate"} <= set(recognizer.methods())
    batch = make_batch(model.vocabulary)
    for method in ("greedy", "joint", "rescoring"):
        assert len(recognizer.recognize(batch, SearchOptions(method=method, beam=2))) == 3
