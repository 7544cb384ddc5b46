"""Whisper as a system: its decoder is transformers', its text is transformers' greedy text, and it needs no training."""

import copy
import json

import numpy as np
import pytest
import torch

from voxkit.batch import Batch, Padded
from voxkit.cli.main import main
from voxkit.decoders.whisper import WhisperTokens
from voxkit.infer.attention_times import WhisperAligner
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.pretrained_recognizer import import_whisper
from voxkit.infer.recognizer import Recognizer
from voxkit.models.whisper import Whisper, WhisperModelConfig, WhisperSizes, read_pretrained
from voxkit.search.options import SearchOptions

transformers = pytest.importorskip("transformers", reason="pip install 'voxkit[pretrained]'")
LANGUAGES = {"en": 50, "de": 51, "fr": 52}
VOCAB = 60


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A small random multilingual Whisper in transformers' format, and as ours."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=VOCAB, num_mel_bins=16, d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, decoder_layers=2,
        decoder_attention_heads=4, decoder_ffn_dim=48, max_source_positions=100, max_target_positions=40, pad_token_id=2, bos_token_id=2,
        eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None)
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    about = {"decoder_start_token_id": 1, "eos_token_id": 2, "no_timestamps_token_id": 56,
             "lang_to_id": {f"<|{code}|>": token for code, token in LANGUAGES.items()},
             "task_to_id": {"transcribe": 54, "translate": 55}, "suppress_tokens": [7, 8], "begin_suppress_tokens": [2, 9],
             "alignment_heads": [[1, 0], [1, 3]]}
    (folder / "generation_config.json").write_text(json.dumps(about))
    return folder, theirs


def waves(*sizes):
    generator = np.random.default_rng(0)
    return [torch.from_numpy((0.1 * generator.standard_normal(n)).astype(np.float32)) for n in sizes]


def test_encoder_and_decoder_are_transformers(pair):
    folder, theirs = pair
    config, ours = read_pretrained(folder, "de")
    assert ours.decoder.prompt == [1, 51, 54, 56] and ours.decoder.alignment_heads == [(1, 0), (1, 3)] and config.sizes.mel_bins == 16
    audio, tokens = waves(20000, 9000), torch.tensor([[1, 51, 54, 56, 10, 11], [1, 51, 54, 56, 20, 21]])
    with torch.no_grad():
        states, lengths, seconds, _ = ours.encode(Batch(["a", "b"], audio=Padded.of(audio)))
        assert states.shape == (2, 100, 32) and lengths.tolist() == [63, 29] and seconds.tolist() == [1.25, 0.5625]
        whole = torch.stack([torch.nn.functional.pad(a, (0, 32000 - len(a))) for a in audio])
        mel = ours.encoder.log_mel(whole, torch.tensor([32000, 32000]), 200)[:, :, :200]
        expected = theirs(input_features=mel, decoder_input_ids=tokens)
        torch.testing.assert_close(states, expected.encoder_last_hidden_state, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.decoder(tokens, states, lengths), expected.logits, atol=1e-4, rtol=1e-4)
        state = ours.decoder.init_state(states, lengths)
        log_probs, state = ours.decoder.step(torch.tensor([56, 56]), state)
        raw = expected.logits[:, 3].log_softmax(-1)
        said = [i for i in range(VOCAB) if i not in (7, 8, 2, 9)]
        torch.testing.assert_close(log_probs[:, said], raw[:, said], atol=1e-4, rtol=1e-4)
        assert bool((log_probs[:, [7, 8, 2, 9]] == -torch.inf).all())
        log_probs, _ = ours.decoder.step(torch.tensor([10, 20]), state)
        assert bool((log_probs[:, [7, 8]] == -torch.inf).all()) and bool(log_probs[:, [2, 9]].isfinite().all())


def test_language_is_found_out_for_each_utterance(pair):
    _, ours = read_pretrained(pair[0])
    assert ours.decoder.prompt == [1, -1, 54, 56]
    with torch.no_grad():
        states, lengths = ours.encode(Batch(["a", "b", "c"], audio=Padded.of(waves(20000, 9000, 30000))))[:2]
        named = ours.decoder.languages(states, lengths)
        state = ours.decoder.init_state(states, lengths)
        found, _ = ours.decoder.step(torch.full((3,), 56), state)
        for i, language in enumerate(named):
            _, told = read_pretrained(pair[0], language)
            alone = told.decoder.step(torch.tensor([56]), told.decoder.init_state(states[i:i + 1], lengths[i:i + 1]))[0]
            torch.testing.assert_close(found[i:i + 1], alone, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="need model.language"):
        ours.decoder.teacher_forcing(torch.tensor([[4]]), torch.tensor([1]))


def test_clips_cut_to_their_length(pair):
    """Without padding a clip costs what it is long; padding of a batch never matters."""
    _, padded = read_pretrained(pair[0], "en")
    config = copy.deepcopy(padded.config)
    config.padded = False
    cut = Whisper(config).eval()
    cut.load_state_dict(padded.state_dict())
    audio = waves(20000, 9000)
    with torch.no_grad():
        together = cut.encode(Batch(["a", "b"], audio=Padded.of(audio)))
        assert together.states.shape[1] == 63
        for i, one in enumerate(audio):
            alone = cut.encode(Batch(["x"], audio=Padded.of([one])))
            torch.testing.assert_close(together.states[i:i + 1, :int(alone.lengths)], alone.states, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="at most 2 s; too long: a"):
        padded.encode(Batch(["a"], audio=Padded.of(waves(32001))))


def test_options_that_cannot_be(pair):
    with pytest.raises(ValueError, match="language: 'xx' is none of auto, de, en, fr"):
        read_pretrained(pair[0], "xx")
    tokens = WhisperTokens(languages=LANGUAGES, tasks={"transcribe": 1})
    assert WhisperModelConfig(sizes=WhisperSizes(), tokens=tokens, task="sing").problems()
    with pytest.raises(ValueError, match="no such folder|not there|cannot be"):
        read_pretrained("./no/such/folder")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper-tiny.en", "whisper-base"])
def test_text_is_transformers_greedy_text(real_models, real_corpus, tmp_path, capsys, name):
    import soundfile

    paths = sorted((real_corpus / "LibriSpeech" / "test-clean-2").rglob("*.flac"))[:60:20]
    checkpoint = import_whisper(real_models / name, tmp_path / "exp", "auto" if name.endswith("en") else "en")
    loaded = load_checkpoint(checkpoint)
    recognizer = Recognizer(loaded.model, loaded.vocabulary)
    assert recognizer.methods() == ["greedy", "attention"]
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(real_models / name, dtype=torch.float32).eval()
    extract = transformers.WhisperFeatureExtractor.from_pretrained(real_models / name)
    aligner = WhisperAligner(real_models / name)
    told = {} if name.endswith("en") else {"language": "en", "task": "transcribe"}
    for path in paths:
        audio = soundfile.read(path, dtype="float32")[0]
        with torch.no_grad():
            features = extract(audio, sampling_rate=16000, return_tensors="pt").input_features
            expected = loaded.vocabulary.decode(theirs.generate(features, do_sample=False, num_beams=1, **told)[0].tolist())
        found = recognizer.transcribe(torch.from_numpy(audio), SearchOptions("greedy", words=True))
        assert found.text == expected != ""
        clock = aligner.align(torch.from_numpy(audio), found.text)
        assert [w.word for w in found.words] == [w.word for w in clock.words]
        assert np.median([abs(a.start - b.start) for a, b in zip(found.words, clock.words)]) <= 0.06
        assert np.mean([w.confidence for w in found.words]) > 0.7
    assert main(["transcribe", str(tmp_path / "exp"), str(paths[-1])]) == 0
    assert capsys.readouterr().out == f"{paths[-1]}\t{expected}\n"
    again = Recognizer.from_pretrained(real_models / name, language="en" if not name.endswith("en") else "auto")
    assert again.transcribe(torch.from_numpy(audio)).text == expected
