"""What is recognized as it comes equals the masked offline pass of the same model: scores, text, words. What does not stream says so."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from voxkit.audio.fbank import Fbank
from voxkit.batch import Batch, Padded, audio_batch
from voxkit.config import structure
from voxkit.encoders.front_end import FbankFrontEnd, FrontEndConfig, PretrainedFrontEnd
from voxkit.infer.chunks import Chunk, chunk_of
from voxkit.infer.recognizer import Encoded, Recognizer, SearchOptions
from voxkit.infer.streaming import StreamingRecognizer, stream_recording
from voxkit.models.contract import Listener
from voxkit.models.voxformer import VoxFormer, VoxFormerConfig
from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.text.sentencepiece import train_characters

ENCODER = {"preset": "toy", "downsampling_factor": [1, 4, 2], "encoder_dim": [16, 32, 24], "unmasked_dim": [12], "num_heads": [2],
           "feedforward_dim": [32], "kernel": [7], "query_head_dim": [8], "pos_dim": 16}
CAUSAL = {"causal": True, "chunk_size": [8, 16, -1], "left_context": [16, 32, -1]}
PIECES = ([1, 37, 401, 159, 2803], [8000], [10 ** 6])


def make(tokenizer, seed=0, conditioned=True, **encoder):
    """A random model that says something: peaked scores, of which no two are alike by rounding, around their mean over some noise."""
    torch.manual_seed(seed)
    config = {"vocab_size": tokenizer.size, "front_end": {"kind": "fbank", "subsampling_dim": 16},
              "encoder": {**ENCODER, **CAUSAL, **encoder}, "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}}
    if conditioned:
        config |= {"intermediate_ctc": {"after": [0, 2]}, "loss": {"intermediate": 0.3}}
    model = VoxFormer(structure(VoxFormerConfig, config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # nothing at a start value that hides something
            if name.endswith(("downsample.bias", "downsample_output.bias", "edge_scale")) or "conditioning" in name:
                torch.nn.init.normal_(parameter)
        states = model.encode(audio_batch(wave(32000))).states[0]
        torch.nn.init.normal_(model.ctc.weight, std=3 / states.shape[1] ** 0.5)
        model.ctc.weight /= states.std(0)
        model.ctc.bias.copy_(-model.ctc.weight @ states.mean(0))
        model.ctc.bias[0] += 3
        model.ctc.bias[tokenizer.word_starts] += 2
    return Recognizer(model, tokenizer)


def wave(samples, seed=1):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)) + 0.02


def pieces(audio, sizes):
    at, number = 0, 0
    while at < len(audio):
        yield audio[at:at + sizes[number % len(sizes)]]
        at, number = at + sizes[number % len(sizes)], number + 1


def streamed(stream, audio, sizes):
    for piece in pieces(audio, sizes):
        stream.accept(piece)
    return stream.finish()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_characters(["heal me", "ward now"], tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def recognizer(tokenizer):
    return make(tokenizer)


@pytest.fixture(scope="module")
def lm(tokenizer):
    return NgramScorer(train([[tokenizer.pieces[t] for t in tokenizer.encode(text)] for text in ("heal me", "ward now")], order=2),
                       tokenizer.pieces)


@pytest.mark.parametrize("backend", ["torch", "torchaudio"])
@pytest.mark.parametrize("samples", [0, 79, 80, 279, 280, 399, 440, 5000, 16000, 16079, 16081])
def test_fbank_in_pieces_is_the_whole(backend, samples):
    fbank, audio = Fbank(20, backend=backend), wave(samples)
    whole, lengths = fbank(audio[None])
    for sizes in PIECES:
        state, parts = fbank.init_state(), []
        for piece in pieces(audio, sizes):
            part, state = fbank.stream(piece[None], state)
            assert state[0].shape[1] < 3 * 160 + 400 or len(piece) > 400
            parts.append(part)
        parts.append(fbank.stream(audio[None, :0], state, final=True)[0])
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)
    assert whole.shape[1] == int(lengths)


def test_fbank_gives_a_frame_when_its_last_sample_is_there():
    fbank, audio = Fbank(20, backend="torch"), wave(1000)
    for size in (279, 280, 439, 440, 999):
        assert fbank.stream(audio[None, :size], fbank.init_state())[0].shape[1] == (size - 280) // 160 + 1


@pytest.mark.parametrize("samples", [300, 1440, 5000, 16237])
@pytest.mark.parametrize("least", [1, 4])
def test_front_end_in_pieces_is_the_whole(samples, least):
    torch.manual_seed(0)
    front, audio = FbankFrontEnd(FrontEndConfig(kind="fbank", fbank_bins=20, subsampling_dim=16)).eval(), wave(2 * samples).view(2, -1)
    assert len(front.init_state(2)) == front.state_size
    whole = None
    if samples >= 1440:  # shorter ones have no frame
        whole, _ = front(Batch(["a", "b"], audio=Padded(audio, torch.tensor([samples, samples]))))
    for sizes in PIECES:
        state, parts = front.init_state(2), []
        for piece in pieces(audio.T, sizes):
            part, state = front.stream(piece.T, state, least=least)
            assert part.shape[1] == 0 or part.shape[1] >= least
            parts.append(part)
        parts.append(front.stream(audio[:, :0], state, final=True)[0])
        found = torch.cat(parts, 1)
        assert whole is not None or found.shape[1] == 0
        if whole is not None:
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("chunk, left, samples", [(8, 16, 16000), (16, 32, 33333), (4, 64, 20480), (32, 32, 5000), (8, 8, 1450)])
def test_states_in_pieces_are_those_of_the_masked_pass(tokenizer, conditioned, chunk, left, samples):
    model = make(tokenizer, conditioned=conditioned).model
    model.encoder.set_chunk(chunk, left)
    audio = wave(2 * samples).view(2, -1)
    with torch.no_grad():
        states, lengths = model.encode(Batch(["a", "b"], audio=Padded(audio, torch.tensor([samples, samples]))))[:2]
        offline = model.ctc_log_probs(states)
        for sizes in PIECES:
            state, parts = model.init_state(2), []
            for piece in pieces(audio.T, sizes):
                part, state = model.stream(piece.T, state)
                assert all(torch.is_tensor(s) and s.shape[0] == 2 for s in state)
                parts.append(part)
            parts.append(model.stream(audio[:, :0], state, final=True)[0])
            torch.testing.assert_close(model.ctc_log_probs(torch.cat(parts, 1)), offline, rtol=1e-3, atol=1e-3)
    assert offline.shape[1] == int(lengths[0])


def test_what_intermediate_heads_read_takes_part(tokenizer):
    """Without the conditioning the streamed scores would be others: the test above would see it."""
    model = make(tokenizer).model
    audio = wave(16000)[None]
    with torch.no_grad():
        told, _ = model.stream(audio, model.init_state(), final=True)
        model.intermediate = None
        untold, _ = model.stream(audio, model.init_state(), final=True)
    assert (told - untold).abs().max() > 0.01


OPTIONS = {"greedy": {"method": "greedy"}, "greedy, phrases": {"method": "greedy", "context": True}, "beam": {"method": "prefix_beam"},
           "beam, phrases": {"method": "prefix_beam", "context": True}, "beam, n-gram": {"method": "prefix_beam", "lm": True},
           "beam, all": {"method": "prefix_beam", "lm": True, "context": True, "length_bonus": 0.7, "beam": 4}}


def search_options(recognizer, lm, options):
    options = {**options, "lm": lm if "lm" in options else None, "lm_weight": 0.8}
    context = recognizer.phrases({"ward": 6.0, "me now": 3.0}) if "context" in options else None
    return SearchOptions(**{**options, "context": context}, words=True, times="peaks")


@pytest.mark.parametrize("which", OPTIONS)
@pytest.mark.parametrize("chunk_ms, left_ms, samples", [(160, 320, 30000), (320, 640, 21777), (80, 80, 9001)])
def test_text_and_words_are_those_of_the_masked_pass(recognizer, lm, which, chunk_ms, left_ms, samples):
    options, audio = search_options(recognizer, lm, OPTIONS[which]), wave(samples, seed=samples)
    stream = StreamingRecognizer(recognizer, options, chunk_ms=chunk_ms, left_ms=left_ms)
    offline = recognizer.transcribe(audio, options)
    assert offline.text.strip()
    for sizes in PIECES:
        found = streamed(stream, audio, sizes)
        assert (found.text, found.tokens) == (offline.text, offline.tokens)
        assert found.score == pytest.approx(offline.score, abs=2e-2) and found.audio_duration == pytest.approx(offline.audio_duration)
        assert [w.word for w in found.words] == [w.word for w in offline.words] and found.words
        for time in ("start", "end"):
            assert [getattr(w, time) for w in found.words] == pytest.approx([getattr(w, time) for w in offline.words])
        assert [w.confidence for w in found.words] == pytest.approx([w.confidence for w in offline.words], abs=1e-3)
        stream.reset()
    wordless = streamed(StreamingRecognizer(recognizer, replace(options, words=False), chunk_ms=chunk_ms, left_ms=left_ms), audio, [640])
    assert wordless.text == offline.text and not wordless.words


def test_phrases_and_language_model_change_what_is_heard(recognizer, lm):
    """Else the equalities above would say nothing of them."""
    texts = {which: streamed(StreamingRecognizer(recognizer, search_options(recognizer, lm, options), chunk_ms=160), wave(30000, 30000),
                             [640]).text for which, options in OPTIONS.items()}
    assert "ward" in texts["greedy, phrases"] and "ward" in texts["beam, phrases"] and "ward" not in texts["greedy"] + texts["beam"]
    assert texts["beam, n-gram"] != texts["beam"]


def test_partial_texts_are_those_of_the_frames_so_far(recognizer, lm):
    """Nothing beyond what was heard, as early as it can be: a chunk's states take it and 13 fbank frames more."""
    options, audio = search_options(recognizer, lm, OPTIONS["beam, all"]), wave(30000, seed=30000)
    stream = StreamingRecognizer(recognizer, options, chunk_ms=160, left_ms=320)
    whole = recognizer.encode(audio_batch(audio))
    seen, frames_of = [], {}
    for end in range(160, len(audio) + 160, 160):
        heard = stream.accept(audio[end - 160:end])
        assert heard.audio_duration == pytest.approx(min(end, len(audio)) / 16000)
        chunks = max(0, ((min(end, len(audio)) - 280) // 160 + 1 - 13) // 2 // 8)
        frames_of[4 * chunks] = heard
        seen.append(heard.text)
    for frames, heard in frames_of.items():
        search = stream.search
        with torch.inference_mode():
            state = search.advance(search.init(1), whole.states[:, :frames], torch.tensor([frames]))
        assert heard.text == recognizer.hypotheses([search.nbest(state, final=False)[0][0]], [0.0], options)[0].text
    assert len(set(seen)) > 4
    changes = list(stream_recording(stream, audio, piece=0.01))
    assert [final for *_, final in changes] == [False] * (len(changes) - 1) + [True]
    assert [h.text for _, h, _ in changes[:-1]] == [t for t, before in zip(seen, ["", *seen]) if t != before]
    assert changes[-1][0] == len(audio) / 16000 and changes[-1][1].text == stream.recognizer.transcribe(audio, options).text


def test_streams_of_one_model_do_not_disturb_each_other(recognizer):
    first, second = StreamingRecognizer(recognizer, chunk_ms=160), StreamingRecognizer(recognizer, chunk_ms=320, left_ms=320)
    audio = wave(20000)
    expected = [streamed(s, audio, [640]).text for s in (first, second)]
    first.reset()
    second.reset()
    for piece in pieces(audio, [3000]):
        first.accept(piece)
        second.accept(piece)
    assert [first.finish().text, second.finish().text] == expected


def test_too_short_for_a_frame_and_nothing_at_all(recognizer):
    for samples in (0, 100, 1000):
        for method in ("greedy", "prefix_beam"):
            stream = StreamingRecognizer(recognizer, SearchOptions(method, words=True))
            stream.accept(wave(samples))
            found = stream.finish()
            assert (found.text, found.words, found.audio_duration) == ("", [], samples / 16000)


def test_samples_that_are_none(recognizer):
    stream = StreamingRecognizer(recognizer)
    with pytest.raises(ValueError, match="samples / 32768"):
        stream.accept(torch.zeros(100, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"\[1, 100\]"):
        stream.accept(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="NaN or infinity"):
        stream.accept(torch.tensor([0.0, torch.nan]))
    stream.accept(wave(1000).numpy())
    stream.finish()
    with pytest.raises(ValueError, match="reset"):
        stream.accept(wave(1000))
    stream.reset()
    assert stream.accept(wave(160)).audio_duration == 0.01


@pytest.mark.parametrize("options, message", [
    ({"method": "joint"}, "method joint does not stream, since it takes the whole utterance; greedy, prefix_beam"),
    ({"method": "rescoring"}, "greedy, prefix_beam"), ({"method": "k2_hlg"}, "greedy, prefix_beam"),
    ({"method": "prefix_beam", "rescore_lm": True}, "--rescore-lm"),
    ({"method": "greedy", "lm": True}, "method greedy takes no language model"),
])
def test_what_does_not_stream(recognizer, options, message):
    with pytest.raises(ValueError, match=message):
        StreamingRecognizer(recognizer, SearchOptions(**options))


def test_models_that_do_not_stream(tokenizer):
    with pytest.raises(ValueError, match="not causal.*train with .*model.encoder.causal=true"):
        StreamingRecognizer(make(tokenizer, causal=False, chunk_size=[-1], left_context=[-1]))
    recognizer = make(tokenizer)
    recognizer.model.front_end = torch.nn.Identity()
    with pytest.raises(ValueError, match="only fbank streams"):
        StreamingRecognizer(recognizer)
    whole = PretrainedFrontEnd.__new__(PretrainedFrontEnd)
    vars(whole)["pretrained"] = SimpleNamespace(chunked=None)
    recognizer.model.front_end = whole
    with pytest.raises(ValueError, match="a full-context encoder does not stream.*; train with model.front_end.kind=fbank"):
        StreamingRecognizer(recognizer)
    with pytest.raises(ValueError, match="a Listener does not stream"):
        StreamingRecognizer(Recognizer(Listener(), tokenizer))
    with pytest.raises(ValueError, match="not causal.*model.encoder.causal=true"):
        chunk_of(make(tokenizer, causal=False, chunk_size=[-1], left_context=[-1]).model, 320)


@pytest.mark.parametrize("chunk_ms, left_ms, message", [
    (300, None, "--chunk-ms 300: a chunk of this model is a multiple of 80 ms; use 240 or 320"),
    (20, None, "--chunk-ms 20: .* use 80"), (0, None, "--chunk-ms 0: .* use 80"), (-1, None, "--chunk-ms -1: .* use 80"),
    (160, 200, "--left-ms 200: the left context is whole chunks of 160 ms; use 160 or 320"),
    (160, 0, "--left-ms 0: .* use 160"), (160, -1, "--left-ms -1: .* use 160"),
])
def test_chunks_that_do_not_fit(recognizer, chunk_ms, left_ms, message):
    with pytest.raises(ValueError, match=message):
        chunk_of(recognizer.model, chunk_ms, left_ms)


def test_chunks_by_default_and_without_bound(tokenizer, recognizer):
    model = recognizer.model
    assert chunk_of(model) == Chunk(8, 16, 20.0) and chunk_of(model, 320) == Chunk(16, 16, 20.0)
    assert chunk_of(model, 240).left == 12  # of 16 frames whole chunks
    assert chunk_of(model, -1, streaming=False) == Chunk(-1, -1, 20.0) and chunk_of(model, 160, -1, streaming=False) == Chunk(8, -1, 20.0)
    names = [Chunk(8, 16, 20.0).name(True), Chunk(8, 16, 20.0).name(False), Chunk(8, -1, 20.0).name(False), Chunk(-1, -1, 20.0).name(False)]
    assert names == ["stream160left320", "chunk160left320", "chunk160leftall", "whole"]
    with pytest.raises(ValueError, match="omit it"):
        chunk_of(model, -1, 320, streaming=False)
    whole = make(tokenizer, chunk_size=[-1], left_context=[-1]).model
    with pytest.raises(ValueError, match="--chunk-ms: the model was trained without bound"):
        chunk_of(whole)
    with pytest.raises(ValueError, match="--left-ms: the model was trained without bound"):
        chunk_of(whole, 160)
    assert chunk_of(whole, 160, 320) == Chunk(8, 16, 20.0)


def test_of_a_batch_every_utterance_equals_its_stream(recognizer):
    """The padded, masked batches of `voxkit decode --chunk-ms` are what streaming gives one by one."""
    options, lengths = SearchOptions("prefix_beam", beam=4), [30000, 21777, 9001]
    stream = StreamingRecognizer(recognizer, options, chunk_ms=160)
    audio = torch.zeros(3, 30000)
    for row, length in zip(audio, lengths):
        row[:length] = wave(length, seed=length)
    batch = recognizer.recognize(Batch(list("abc"), audio=Padded(audio, torch.tensor(lengths))), options)
    assert isinstance(recognizer.encode(audio_batch(audio[2, :9001])), Encoded)
    for row, length, offline in zip(audio, lengths, batch):
        assert streamed(stream, row[:length], [640]).text == offline.text
        stream.reset()
