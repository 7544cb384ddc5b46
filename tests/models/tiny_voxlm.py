"""A small VoxLM over a random language model, and batches for it."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.decoders.tiny_llms import TEXTS, make_llm
from voxkit.batch import Batch, Padded
from voxkit.decoders.alignment_head import AlignmentConfig
from voxkit.decoders.llm_config import LLMConfig, LoraOptions
from voxkit.encoders.front_end import FrontEndConfig
from voxkit.encoders.projector import ProjectorConfig
from voxkit.models.voxlm import VoxLM, VoxLMConfig
from voxkit.text.huggingface import HuggingFaceVocabulary
from voxkit.text.llm_vocabulary import LLMVocabulary
from voxkit.text.prompt import PromptConfig

SENTENCES = TEXTS[:3]


def vocabulary_of(folder: Path, texts: list[str] = SENTENCES) -> LLMVocabulary:
    return LLMVocabulary.of_texts(HuggingFaceVocabulary.load(folder), texts)


def config_of(folder: Path, kind: str = "lexical", **options) -> VoxLMConfig:
    front_end = options.pop("front_end", FrontEndConfig(kind="fbank", subsampling_dim=24))
    return VoxLMConfig(front_end=front_end, encoder={"kind": "transformer", "dim": 24, "heads": 2, "ffn": 32, "layers": 1},
                       llm=LLMConfig(name=str(folder), dtype="float32", lora=LoraOptions(rank=2, dropout=0.0)),
                       projector=ProjectorConfig(kind, stack=3, hidden=32), alignment=AlignmentConfig(dim=16, kernel=3, layers=1),
                       prompt=options.pop("prompt", PromptConfig(instruction="write")), dropout=0.0, **options)


def make_voxlm(folder: Path, family: str = "qwen2", kind: str = "lexical", chat: bool = False, **options) -> VoxLM:
    """`folder` gets the language model's, unless it is there."""
    llm = folder / (family + "-chat" * chat)
    if not (llm / "config.json").is_file():
        make_llm(llm, family, chat=chat)
    torch.manual_seed(0)
    model = VoxLM(config_of(llm, kind, **options), vocabulary_of(llm))
    with torch.no_grad():  # LoRA counts, and CTC hears something
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        model.ctc.weight.mul_(8)
        model.ctc.bias[0] = -1.0
    return model


def make_batch(vocabulary: LLMVocabulary, texts: list[str] = SENTENCES, *, spans: bool = False) -> Batch:
    """Noise of several lengths, with something loud in the padding."""
    lengths = [24000 - 4000 * n for n in range(len(texts))]
    audio = 0.1 * torch.randn(len(texts), max(lengths), generator=torch.Generator().manual_seed(1))
    for row, size in zip(audio, lengths):
        row[size:] = 3.0
    tokens = Padded.of([torch.tensor(vocabulary.encode(text), dtype=torch.long) for text in texts])
    batch = Batch([f"u{n}" for n in range(len(texts))], audio=Padded(audio, torch.tensor(lengths)), tokens=tokens, texts=list(texts))
    if spans:
        rows = []
        for text, size in zip(texts, lengths):
            ids = vocabulary.encode(text)
            words = vocabulary.words(ids)
            row = torch.zeros(len(ids), 2)
            for n, (_, places) in enumerate(words):
                row[places.start:places.stop] = torch.tensor([n + 0.1, n + 0.9]) * size / 16000 / len(words)
            rows.append(row)
        batch.spans = Padded.of(rows)
    return batch
