"""Whisper base and Gemma 3 270M together: real tokens, real sizes, a step that learns."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from voxkit.audio.io import read_audio  # noqa: E402
from voxkit.batch import Batch, Padded  # noqa: E402
from voxkit.decoders.llm_config import LLMConfig  # noqa: E402
from voxkit.encoders.front_end import FrontEndConfig  # noqa: E402
from voxkit.encoders.pretrained import PretrainedConfig  # noqa: E402
from voxkit.models.voxlm import VoxLM, VoxLMConfig  # noqa: E402
from voxkit.text.huggingface import HuggingFaceVocabulary  # noqa: E402
from voxkit.text.llm_vocabulary import LLMVocabulary  # noqa: E402
from voxkit.text.prompt import PromptConfig  # noqa: E402


@pytest.mark.real
@pytest.mark.slow
def test_real_parts_learn_together(real_models, real_gemma, real_corpus):
    listing = sorted((real_corpus / "LibriSpeech").rglob("*.trans.txt"))[0]
    lines = [line.split(" ", 1) for line in listing.read_text().splitlines()]
    chosen = sorted(((listing.parent / f"{id}.flac", text.lower()) for id, text in lines), key=lambda one: len(one[1]))[:2]
    base = HuggingFaceVocabulary.load(real_gemma)
    vocabulary = LLMVocabulary.of_texts(base, [text.lower() for _, text in lines])
    assert 256 < vocabulary.heard < vocabulary.size < 10_000
    for _, text in chosen:
        assert vocabulary.decode(vocabulary.encode(text)) == text
    torch.manual_seed(0)
    model = VoxLM(VoxLMConfig(front_end=FrontEndConfig(kind="pretrained", adapter_hidden=64, adapter_dim=128,
                                                       pretrained=PretrainedConfig(name=str(real_models / "whisper-base"))),
                              llm=LLMConfig(name=str(real_gemma), dtype="float32"), prompt=PromptConfig(instruction="")), vocabulary)
    assert model.llm.rms == pytest.approx(1.03, abs=0.15)  # Gemma scales inside its embeddings
    waves = [read_audio(path)[0] for path, _ in chosen]
    batch = Batch(["a", "b"], audio=Padded.of(waves), texts=[text for _, text in chosen],
                  tokens=Padded.of([torch.tensor(vocabulary.encode(text)) for _, text in chosen]))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(3):
        found = model.loss(batch)
        losses.append(float(found.total.detach()))
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    text_alone = Batch(["a", "b"], tokens=batch.tokens)
    model.eval()
    with torch.no_grad():
        assert float(model.loss(text_alone).total) < 4.0  # it reads its own embeddings: a language model from the start
