"""VoxFormer with a transducer: its loss, its searches through the Recognizer, alone or beside other heads, streamed, saved and loaded."""

from dataclasses import replace

import pytest
import torch

from tests.infer.test_streaming import CAUSAL, ENCODER, streamed, wave
from tests.models.test_voxformer import make_batch, setup, tokenizer  # noqa: F401
from voxkit.batch import audio_batch
from voxkit.config import ConfigError, structure
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.streaming import StreamingRecognizer
from voxkit.losses.transducer import transducer_loss
from voxkit.models.voxformer import VoxFormer, VoxFormerConfig
from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.options import SearchOptions
from voxkit.search.transducer import transducer_greedy
from voxkit.search.transducer_beam import transducer_beam

SIZES = {"decoder_dim": 16, "joiner_dim": 24}
ALONE = {"ctc": 0.0, "start_ctc": 0.0, "attention": 0.0, "start_attention": 0.0, "transducer": 1.0}
METHODS = ("transducer_greedy", "transducer_beam")


def talkative(tokenizer, seed=0):  # noqa: F811
    """A random causal model whose only head is a transducer that says something."""
    torch.manual_seed(seed)
    config = {"vocab_size": tokenizer.size, "front_end": {"kind": "fbank", "subsampling_dim": 16}, "encoder": {**ENCODER, **CAUSAL},
              "loss": ALONE, "transducer": SIZES}
    model = VoxFormer(structure(VoxFormerConfig, config)).eval()
    states = model.encode(audio_batch(wave(32000))).states[0]
    with torch.no_grad():
        linear = model.transducer.joiner.encoder_proj
        torch.nn.init.normal_(linear.weight, std=2 / states.shape[1] ** 0.5)
        linear.weight /= states.std(0)
        linear.bias.copy_(-linear.weight @ states.mean(0))
        model.transducer.joiner.decoder_proj.weight.mul_(8)
        torch.nn.init.normal_(model.transducer.joiner.output_linear.weight, std=0.8)
        model.transducer.joiner.output_linear.bias[0] += 3
    return Recognizer(model, tokenizer)


@pytest.fixture(scope="module")
def recognizer(tokenizer):  # noqa: F811
    return talkative(tokenizer)


@pytest.fixture(scope="module")
def lm(tokenizer):  # noqa: F811
    texts = [[tokenizer.pieces[t] for t in tokenizer.encode(text)] for text in ("heal me now", "push the left lane")]
    return NgramScorer(train(texts, order=2), tokenizer.pieces)


def options_of(recognizer, lm, which, method, **others):
    phrases = recognizer.phrases({"heal": 2.0}) if which in ("phrases", "both") else None
    if method == "transducer_greedy":
        return SearchOptions(method, context=phrases, words=True, **others)
    with_lm = {"lm": lm, "lm_weight": 0.5, "internal_lm_weight": 0.2, "length_bonus": 0.3} if which in ("lm", "both") else {}
    return SearchOptions(method, beam=4, context=phrases, words=True, **with_lm, **others)


def test_the_loss_is_that_of_the_heads_together(tokenizer):  # noqa: F811
    torch.manual_seed(0)
    model = setup({"kind": "fbank"}, loss={"ctc": 0.3, "start_ctc": 0.3, "attention": 0.0, "start_attention": 0.0, "transducer": 0.5},
                   transducer=SIZES, transducer_loss={"by": "torchaudio", "warmup_steps": 10}).build_model(tokenizer.size)
    batch = make_batch(tokenizer)
    model.eval().set_step(5)
    found, encoded, tokens = model.loss(batch), model.encode(batch), batch.tokens
    alone = transducer_loss(model.transducer, encoded.states, encoded.lengths, tokens.values, tokens.lengths,
                            model.config.transducer_loss, 5)
    torch.testing.assert_close(found.total, 0.3 * found.parts["ctc"] + 0.5 * alone.total / tokens.lengths.sum())
    torch.testing.assert_close(found.parts["transducer"], alone.joined / tokens.lengths.sum())
    model.train().loss(batch).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.transducer.parameters())


def test_a_transducer_alone_has_no_ctc_head(tokenizer):  # noqa: F811
    model = setup({"kind": "fbank"}, loss=ALONE, transducer=SIZES).build_model(tokenizer.size)
    assert model.ctc is None and model.heads.ctc is None and model.heads.decoder is None
    losses = model.loss(make_batch(tokenizer))
    losses.total.backward()
    assert set(losses.parts) == {"transducer", "transducer_simple"} and losses.total.isfinite()
    recognizer = Recognizer(model.eval(), tokenizer)
    assert recognizer.methods() == ["greedy", *METHODS]
    plain, named = (recognizer.recognize(make_batch(tokenizer), SearchOptions(name)) for name in ("greedy", "transducer_greedy"))
    assert plain == named, "what a model has no other greedy search for"
    with pytest.raises(ValueError, match="method prefix_beam needs a CTC head.*use greedy, transducer_greedy, transducer_beam"):
        recognizer.recognize(make_batch(tokenizer), SearchOptions("prefix_beam"))


def test_losses_of_a_ctc_head_that_is_not_there_are_refused():
    with pytest.raises(ConfigError, match="consistency: it is taken from the CTC head"):
        setup({"kind": "fbank"}, loss={**ALONE, "consistency": 0.2})
    with pytest.raises(ConfigError, match="nothing would be trained"):
        setup({"kind": "fbank"}, loss={**ALONE, "transducer": 0.0})


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_recognized_by_its_rows(recognizer, tokenizer, method):  # noqa: F811
    batch = make_batch(tokenizer)
    found = recognizer.recognize(batch, SearchOptions(method, beam=4, words=True))
    encoded, head = recognizer.encode(batch), recognizer.model.transducer
    with torch.no_grad():
        if method == "transducer_greedy":
            plain = transducer_greedy(head, encoded.states, encoded.lengths)
        else:
            plain = [row[0] for row in transducer_beam(head, encoded.states, encoded.lengths, 4, length_power=1.0)]
    for b, (h, p) in enumerate(zip(found, plain)):
        kept = [k for k in p.tokens if k not in tokenizer.specials]
        assert h.tokens == kept and h.text == tokenizer.decode(kept) and len(h.tokens) > 2
        assert h.score == pytest.approx(p.score) and all(0 < c <= 1 for c in h.token_confidences)
        assert " ".join(w.word for w in h.words) == h.text
        assert all(0 <= w.start < w.end <= h.audio_duration and 0 < w.confidence <= 1 for w in h.words)
        alone = recognizer.recognize(batch.take(slice(b, b + 1)), SearchOptions(method, beam=4, words=True))[0]
        assert alone.text == h.text and [(w.start, w.end) for w in alone.words] == [(w.start, w.end) for w in h.words]


def test_a_frame_may_emit_more_than_one(recognizer, tokenizer):  # noqa: F811
    one, three = (recognizer.recognize(make_batch(tokenizer), SearchOptions("transducer_greedy", symbols_per_frame=n))[0] for n in (1, 3))
    assert len(three.tokens) > len(one.tokens)
    with pytest.raises(ValueError, match="--symbols-per-frame 0"):
        recognizer.recognize(make_batch(tokenizer), SearchOptions("transducer_greedy", symbols_per_frame=0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("which", ["plain", "lm", "phrases", "both"])
@pytest.mark.parametrize("chunk_ms,left_ms", [(320, 640), (640, 1280)])
def test_streamed_it_is_the_masked_pass(recognizer, lm, method, which, chunk_ms, left_ms):
    options = options_of(recognizer, lm, which, method)
    stream = StreamingRecognizer(recognizer, options, chunk_ms=chunk_ms, left_ms=left_ms)
    audio = wave(30000)
    heard = streamed(stream, audio, [1, 37, 401, 159, 2803])
    stream.chunk.set(recognizer.model)
    whole = recognizer.transcribe(audio, replace(options, times="peaks"))
    assert heard.text == whole.text and len(whole.text) > 3
    assert heard.score == pytest.approx(whole.score, abs=1e-3)
    assert [(w.word, w.start, w.end) for w in heard.words] == [(w.word, w.start, w.end) for w in whole.words]


@pytest.mark.parametrize("method", METHODS)
def test_phrases_and_language_model_change_what_is_heard(recognizer, lm, method):
    audio = wave(30000)
    which = ["plain", "phrases"] if method == "transducer_greedy" else ["plain", "phrases", "lm", "both"]
    texts = [recognizer.transcribe(audio, options_of(recognizer, lm, w, method)).text for w in which]
    assert len(set(texts)) == len(texts)


def test_what_greedy_does_not_take_is_refused(recognizer, lm):
    with pytest.raises(ValueError, match="method transducer_greedy takes no language model.*use transducer_beam"):
        recognizer.transcribe(wave(8000), SearchOptions("transducer_greedy", lm=lm))
