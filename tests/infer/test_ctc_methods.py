"""The CTC head is searched alike whatever decoder stands beside it: beam, language model, phrases and bonus mean the same."""

from types import SimpleNamespace

import pytest
import torch

from voxkit.batch import Batch, Padded
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.models.contract import Encoded
from voxkit.search.heads import Heads
from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.text.sentencepiece import train_characters

FRAMES = 24


class Stub:
    """States are given; CTC's scores are a map of them, and the decoder's of a text depend on its tokens alone."""

    seconds_per_frame = 0.04

    def __init__(self, vocab, unlikely):
        torch.manual_seed(1)
        self.ctc_scores = torch.randn(2, FRAMES, vocab) * 1.5
        self.ctc_scores[..., 0] += 1.0
        self.ctc_scores[..., unlikely] -= 7.0  # below what a beam looks at by itself
        self.token_scores = torch.randn(vocab).log_softmax(0)

    def encode(self, batch):
        return Encoded(torch.zeros(2, FRAMES, 4), torch.tensor([FRAMES, FRAMES - 5]), torch.tensor([FRAMES, FRAMES - 5]) / 25)

    def ctc_log_probs(self, states):
        return self.ctc_scores.log_softmax(-1)

    def score(self, states, lengths, tokens, token_lengths):
        counted = torch.arange(tokens.shape[2]) < token_lengths[..., None]
        return (self.token_scores[tokens] * counted).sum(2)


class Autoregressive(Stub):
    @property
    def heads(self):
        return Heads(ctc=self.ctc_log_probs, decoder=SimpleNamespace(score=self.score))


class Parallel(Stub):
    has_ctc = True

    @property
    def heads(self):
        return Heads(ctc=self.ctc_log_probs if self.has_ctc else None, parallel=self)

    def predict(self, states, lengths, guided=False):
        """Six tokens an utterance, from the frames of CTC."""
        log_probs = self.ctc_scores[:, :6].log_softmax(-1)
        return SimpleNamespace(log_probs=log_probs, lengths=torch.tensor([6, 6]), times=torch.arange(6).expand(2, 6) * 4.0,
                               weights=torch.full((2, 24), 0.25))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_characters(["heal me", "ward now"], tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def recognizers(tokenizer):
    unlikely = tokenizer.encode("ward")
    return [Recognizer(kind(tokenizer.size, unlikely), tokenizer) for kind in (Autoregressive, Parallel)]


@pytest.fixture(scope="module")
def lm(tokenizer):
    return NgramScorer(train([[tokenizer.pieces[t] for t in tokenizer.encode(text)] for text in ("heal me", "ward now")], order=2),
                       tokenizer.pieces)


BATCH = Batch(["a", "b"], audio=Padded(torch.zeros(2, FRAMES * 640), torch.tensor([FRAMES * 640, (FRAMES - 5) * 640])))


def _same(recognizers, options, of_parallel=None):
    one, other = recognizers
    options = SearchOptions(**options)
    found = one.recognize(BATCH, options)
    parallel = other.recognize(BATCH, SearchOptions(**{**vars(options), "method": of_parallel or options.method}))
    assert [h.tokens for h in found] == [h.tokens for h in parallel]
    assert [h.score for h in found] == pytest.approx([h.score for h in parallel], abs=1e-4)
    assert [[w.word for w in h.words] for h in found] == [[w.word for w in h.words] for h in parallel]
    return [h.tokens for h in found]


@pytest.mark.parametrize("method", ["prefix_beam", "rescoring"])
def test_every_option_reaches_the_beam_of_both(method, recognizers, lm):
    context = recognizers[0].phrases({"ward": 9.0})
    plain = _same(recognizers, {"method": method, "beam": 3, "words": True})
    changed = {"lm": {"lm": lm, "lm_weight": 1.5}, "phrases": {"context": context}, "bonus": {"length_bonus": 3.0}, "beam": {"beam": 1},
               "all": {"lm": lm, "context": context, "length_bonus": 1.0}}
    found = {name: _same(recognizers, {"method": method, "beam": 3, **more}) for name, more in changed.items()}
    assert all(found[name] != plain for name in ("lm", "phrases", "bonus"))
    assert sum(map(len, found["bonus"])) > sum(map(len, plain))
    for recognizer in recognizers:
        assert all("ward" in h.text for h in recognizer.recognize(BATCH, SearchOptions(method, beam=3, context=context)))


def test_ctc_greedy_is_the_greedy_of_a_ctc_head(recognizers):
    plain = _same(recognizers, {"method": "greedy", "words": True}, "ctc_greedy")
    phrased = _same(recognizers, {"method": "greedy", "context": recognizers[0].phrases({"ward": 9.0})}, "ctc_greedy")
    assert plain != phrased


def test_phrases_reach_what_a_parallel_decoder_ranks_low(recognizers):
    """A beam of 1 looks at the two best of each place; a phrase's tokens are among none of those."""
    recognizer = recognizers[1]
    options = {"method": "beam", "beam": 1, "ctc_weight": 0.0}
    assert "ward" not in recognizer.recognize(BATCH, SearchOptions(**options))[0].text
    assert "ward" in recognizer.recognize(BATCH, SearchOptions(**options, context=recognizer.phrases({"ward": 30.0})))[0].text


def test_confidences_of_tokens_take_the_temperature(recognizers):
    for method in [name for name in recognizers[1].methods() if not name.startswith("k2_")]:
        plain, calibrated = (recognizers[1].recognize(BATCH, SearchOptions(method, temperature=t))[0].token_confidences for t in (1.0, 2.0))
        assert calibrated == pytest.approx([p ** 0.5 for p in plain]) and min(plain) < 0.9, method


@pytest.mark.parametrize("which, method, fused, message", [
    (0, "greedy", ["lm"], "no language model (--lm): it decides token by token, without what stands before, and finds one "
                          "hypothesis; use prefix_beam, attention, joint"),
    (0, "k2_hlg", ["context"], "no phrases (--phrases): it scores by its graph alone"),
    (1, "greedy", ["lm", "context"], "no language model (--lm) and no phrases (--phrases): it says all tokens at once"),
    (1, "ctc_greedy", ["lm", "context"], "no language model (--lm): it decides token by token, without what stands before, and finds "
                                         "one hypothesis; use beam, prefix_beam, rescoring"),
])
def test_what_a_method_does_not_take(recognizers, lm, which, method, fused, message):
    held = {"lm": lm, "context": recognizers[0].phrases(["ward"])}
    options = SearchOptions(method, **{name: held[name] for name in fused})
    assert f"method {method} takes {message}" in recognizers[which].refusal(options)
    with pytest.raises(ValueError, match=f"method {method} takes no"):
        recognizers[which].recognize(BATCH, options)


def test_a_row_refuses_what_it_does_not_take_and_says_why(recognizers, lm):
    everything = {"lm": lm, "context": recognizers[0].phrases(["ward"]), "rescore_lm": object()}
    for recognizer in recognizers:
        for name in recognizer.methods():
            row, options = recognizer.method(name), SearchOptions(name, **everything)
            assert set(recognizer.refused(options)) == set(everything) - set(row.takes)
            assert (recognizer.refusal(options) is None) == (set(row.takes) == set(everything)) == (row.why == "")
            assert recognizer.refusal(SearchOptions(name)) is None


def test_only_methods_that_a_model_has_are_named(tokenizer, lm):
    model = Parallel(tokenizer.size, tokenizer.encode("ward"))
    model.has_ctc = False
    assert Recognizer(model, tokenizer).refusal(SearchOptions("greedy", lm=lm)).endswith("; use beam")
