"""The contract that every system of the table keeps: padding never matters, runs resume exactly, checkpoints come back, use works."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.decoders.tiny_llms import make_llm
from tests.noise import noise_set
from voxkit import config as configuration
from voxkit.batch import Counts
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.infer.audio_generator import AudioGenerator
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.language_model import load_language_model
from voxkit.infer.recognizer import Recognizer
from voxkit.models.codec import CodecConfig, CodecModel
from voxkit.run import Run, train
from voxkit.run_config import Setup, make_setup
from voxkit.search.options import SearchOptions
from voxkit.system import SYSTEMS, find_system
from voxkit.text.huggingface import HuggingFaceVocabulary
from voxkit.text.llm_vocabulary import LLMVocabulary
from voxkit.text.sentencepiece import train_characters
from voxkit.text.vocabulary import Vocabulary, no_text
from voxkit.train.distributed import World

TEXTS = ("heal me", "ward", "push the left lane", "now")
FBANK = {"kind": "fbank", "subsampling_dim": 96, "spec_augment": {"prob": 0.0}}
TRANSFORMER = {"kind": "transformer", "dim": 16, "heads": 2, "ffn": 32, "layers": 1}

SMALL = {  # the least of each system that still has all its parts
    "voxformer": {"front_end": FBANK, "encoder": {"preset": "toy"}, "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}},
    "paraformer": {"front_end": {**FBANK, "kind": "stacked"}, "encoder": TRANSFORMER,
                   "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}},
    "whisper": {"outputs": 40, "tokens": {"start": 1, "end": 2, "plain": 1},
                "sizes": {"mel_bins": 16, "source_positions": 100, "dim": 16, "encoder_layers": 1, "encoder_heads": 2, "encoder_ffn": 32,
                          "decoder_layers": 1, "decoder_heads": 2, "decoder_ffn": 32, "positions": 64}},
    "token_lm": {"kind": "lstm", "dim": 16, "layers": 1},
    "lact_asr": {"front_end": {**FBANK, "kind": "stacked"}, "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1},
                 "encoder": {"kind": "lact", "dim": 16, "heads": 2, "ffn": 32, "layers": 2, "fast_layers": 1,
                             "fast": {"heads": 2, "chunk": 8}}},
    "voxlm": {"front_end": FBANK, "encoder": TRANSFORMER, "projector": {"kind": "lexical"},
              "alignment": {"dim": 16, "kernel": 3, "layers": 1},
              "llm": {"name": "LLM", "dtype": "float32", "lora": {"rank": 2, "dropout": 0.0}}, "prompt": {"instruction": "write"}},
    "codec": {"codec": {"dim": 16, "encoder_layers": 1, "decoder_layers": 1, "head_layers": 1, "mels": 16,
                        "quantizer": {"codebooks": 2, "size": 8}}},
    "lact_audio": {"lact": {"dim": 16, "heads": 2, "ffn": 16, "layers": 1, "left": 8, "fast": {"heads": 2, "chunk": 8}},
                   "depth": {"dim": 8, "heads": 2, "ffn": 8, "layers": 1}, "segment": 20, "gradient": 2},
}
WITH_TEXT = [system for system in SYSTEMS if find_system(system).vocabulary is not no_text]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Prepared sets train and dev, and a tokenizer."""
    root = tmp_path_factory.mktemp("systems")
    for name, count in (("train", 8), ("dev", 3)):
        noise_set(root / "data", name, count, lambda i: TEXTS[i % len(TEXTS)], seconds=1.5)
    make_llm(root / "llm", "qwen2")
    for system in WITH_TEXT:
        tokens(root, system, root / "tokens" / system, TEXTS)
    return root


def tokens(project: Path, system: str, folder: Path, texts: Sequence[str]) -> Vocabulary:
    """The vocabulary of a system over some texts, kept in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if system == "lact_audio":
        torch.manual_seed(len(texts))
        made = AudioTokenizer(CodecModel(configuration.structure(CodecConfig, SMALL["codec"], "codec")).codec.eval())
        made.save(folder)
        return made
    if system != "voxlm":
        return train_characters(texts, folder)
    vocabulary = LLMVocabulary.of_texts(HuggingFaceVocabulary.load(project / "llm"), list(texts))
    vocabulary.save(folder)
    return vocabulary


def setup(project: Path, system: str, **more) -> Setup:
    model = copy.deepcopy(SMALL[system])
    if system == "voxlm":
        model["llm"]["name"] = str(project / "llm")
    tokenizer = str(project / "tokens" / system) if system in WITH_TEXT else ""
    values = {"name": system, "system": system, "tokenizer": tokenizer, "model": model,
              "data": {"data_dir": str(project / "data"), "train": ["train"], "dev": ["dev"], "num_workers": 0, "max_duration": 8,
                       "max_tokens": 60, "sessions": {"utterances": [1], "seconds": [4.0]}},
              "train": {"epochs": 2, "precision": "fp32", "log_every": 1, "schedule": {"warmup_steps": 2}, **more}}
    return make_setup(configuration.OmegaConf.create(values))


def run_of(project: Path, system: str, folder: Path) -> Run:
    torch.manual_seed(0)
    return Run(setup(project, system), folder, World())


def test_every_system_is_here():
    assert set(SMALL) == set(SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS)
def test_padding_never_matters(project, tmp_path, system):
    """A batch loses what its items lose alone, each weighed by what it counts."""
    run = run_of(project, system, tmp_path)
    model = run.model.eval()
    batch = next(b for b in run.reader.train if b.size > 1 and len(set(b.input.lengths.tolist())) > 1)
    with torch.no_grad():
        whole = model.loss(batch)
        counts = Counts(batch.size, float(batch.tokens.lengths.sum()) if batch.tokens is not None else 0.0)
        alone = [model.loss(replace(batch.take(slice(i, i + 1)), whole=counts)) for i in range(batch.size)]
    assert set(whole.parts) == set(alone[0].parts) and float(whole.weight) == sum(float(part.weight) for part in alone)
    mean = sum(float(part.total * part.weight) for part in alone) / float(whole.weight)
    assert float(whole.total) == pytest.approx(mean, rel=2e-4)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_that_was_broken_off_goes_on_exactly(project, tmp_path, system):
    """Ended after its first epoch and continued, a run ends with the weights of one that was not; its checkpoint can be used."""
    whole, _ = train(setup(project, system), run_dir=tmp_path / "whole", device="cpu")
    part, _ = train(setup(project, system, max_steps=1), run_dir=tmp_path / "parts", device="cpu")
    rest, folder = train(setup(project, system), run_dir=tmp_path / "parts", device="cpu")
    assert part.step == 1 < whole.step == rest.step and whole.reason == rest.reason == "finished"
    assert find_system(system).metric in whole.metrics and whole.metrics == rest.metrics
    a, b = (load_checkpoint(tmp_path / name / "checkpoints" / whole.checkpoint.name) for name in ("whole", "parts"))
    for name, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[name]), name


@pytest.mark.parametrize("system", SYSTEMS)
def test_saved_and_loaded_it_is_the_same_and_can_be_used(project, tmp_path, system):
    run = run_of(project, system, tmp_path)
    result, folder = train(setup(project, system, max_steps=2), run_dir=tmp_path / "run", device="cpu")
    loaded = load_checkpoint(folder)
    batch = next(iter(run.reader.train))
    with torch.no_grad():
        again = load_checkpoint(result.checkpoint).model.loss(batch).total
    assert torch.isfinite(again) and loaded.setup.config.system == system
    if find_system(system).use == "recognizer":
        recognizer = Recognizer(loaded.model, loaded.vocabulary)
        for name in recognizer.methods():
            if not name.startswith("k2_"):
                found = recognizer.recognize(batch, SearchOptions(method=name, beam=3))
                assert [type(h.text) for h in found] == [str] * batch.size and all(h.audio_duration > 0 for h in found)
    elif find_system(system).use == "generator":
        generator = AudioGenerator(loaded.model, loaded.vocabulary)
        heard, _ = generator.audio(generator.start(batch.codes.values[:, :7], range(batch.size)), 5)
        assert heard.shape == (batch.size, 5 * 320) and heard.isfinite().all()
    elif find_system(system).use == "codec":
        codes = loaded.model.codec.encode(batch.audio)
        heard = loaded.model.codec.decode(codes)
        assert heard.values.isfinite().all() and (heard.lengths >= batch.audio.lengths).all()
    else:
        scorer = load_language_model(folder, loaded.vocabulary)
        state = scorer.init(1, torch.device("cpu"))
        assert float(scorer.score(state, torch.arange(loaded.vocabulary.size)[None]).exp().sum()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("system", WITH_TEXT)
def test_another_tokenizer_is_refused(project, tmp_path, system):
    _, folder = train(setup(project, system, max_steps=1), run_dir=tmp_path / "run", device="cpu")
    other = tokens(project, system, tmp_path / "other", ["another alphabet zyx"])
    changed = setup(project, system)
    changed.config.tokenizer = str(tmp_path / "other")
    with pytest.raises(ValueError, match="tokenizer"):
        train(changed, run_dir=folder, device="cpu")
    checkpoint = load_checkpoint(folder).path
    other.save(checkpoint)
    with pytest.raises(ValueError, match="tokenizer"):
        load_checkpoint(checkpoint)


def test_a_system_without_text_takes_no_tokenizer(project, tmp_path):
    changed = setup(project, "codec")
    changed.config.tokenizer = str(project / "tokens" / "voxformer")
    with pytest.raises(ValueError, match="no text"):
        train(changed, run_dir=tmp_path / "run", device="cpu")
