"""A small random multilingual Whisper with its vocabulary, as a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.text.vocabularies import letters

LANGUAGES = ("en", "de")
SPECIALS = ("<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|transcribe|>", "<|translate|>", "<|nospeech|>",
            "<|notimestamps|>", "<|endoftext|>")


def make_whisper(folder: Path, seconds: int = 4) -> Path:
    """Write one that hears so many seconds at the most; it says long texts of capital letters. → the folder."""
    transformers = pytest.importorskip("transformers", reason="pip install 'voxkit[pretrained]'")
    letters(folder, SPECIALS)
    pieces = json.loads((folder / "tokenizer.json").read_text())
    size = len(pieces["model"]["vocab"])
    ids = {token: size + i for i, token in enumerate(SPECIALS)}
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=size + len(SPECIALS), num_mel_bins=16, d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48, max_source_positions=50 * seconds, max_target_positions=60,
        pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], suppress_tokens=None, begin_suppress_tokens=None)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    about = {"decoder_start_token_id": ids["<|startoftranscript|>"], "eos_token_id": ids["<|endoftext|>"],
             "no_timestamps_token_id": ids["<|notimestamps|>"], "lang_to_id": {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES},
             "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
             "suppress_tokens": list(range(26, size - 1)),  # all but capital letters and a word
             "begin_suppress_tokens": [ids["<|endoftext|>"]], "alignment_heads": [[1, 0], [1, 3]]}
    (folder / "generation_config.json").write_text(json.dumps(about))
    return folder
