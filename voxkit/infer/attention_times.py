"""Word times from cross-attention and DTW: of our own decoder, and of Whisper, which then serves as the clock for real speech."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxkit.align.attention import attention_spans, best_heads, spoken_spans
from voxkit.align.ctc import forced_align
from voxkit.align.words import words_from_tokens
from voxkit.batch import audio_batch
from voxkit.hub import is_folder, reading
from voxkit.hypothesis import Hypothesis, Word
from voxkit.optional import require
from voxkit.rate import RATE

_EXAMPLES = 16  # utterances that the heads are chosen on


class AttentionAligner:
    """Aligns text by the cross-attention of a recognizer's decoder; its heads are chosen on the first utterances, by how near their
    attention lies to where CTC has the tokens.

    Args:
        recognizer: with a model that has an attention decoder and a CTC head; count: of its heads that are followed. An imported Whisper
            needs no CTC: its heads are known.

    Raises:
        ValueError: the model lacks one of the two.
    """

    def __init__(self, recognizer: Any, count: int = 4, width: int = 3) -> None:
        heads = recognizer.model.heads
        if heads.decoder is None:
            raise ValueError("--method attention needs an attention decoder, which says one token after the other, and this model has "
                             "none; use --method ctc")
        self.known = bool(heads.decoder.alignment_heads)
        if heads.ctc is None and not self.known:
            raise ValueError("--method attention chooses the heads to follow by a CTC head, and this model has none")
        self.recognizer, self.count, self.width = recognizer, count, width
        self.heads: list[tuple[int, int]] | None = None

    @torch.inference_mode()
    def choose(self, examples: list[tuple[Tensor, str]]) -> list[tuple[int, int]]:
        """Choose the heads on (waveform [S], text) pairs → (layer, head), best first; those that are known stay."""
        if self.known:
            return list(self.recognizer.model.heads.decoder.alignment_heads)
        measured = []
        for wave, text in [(wave, text) for wave, text in examples if text.strip()][:_EXAMPLES]:
            weights, log_probs, tokens = self._weights(wave, text)
            aligned = forced_align(log_probs[None], torch.tensor([len(log_probs)]), torch.tensor([tokens]), torch.tensor([len(tokens)]),
                                   self.recognizer.model.heads.blank, strict=False)[0]
            if aligned is not None and tokens:
                measured.append((weights, [(s.start + s.end - 1) / 2 for s in aligned.spans]))
        if not measured:
            raise ValueError("none of the first texts fits its audio by CTC, so that no heads can be chosen: is it the right text?")
        self.heads = best_heads(measured, self.count)
        return self.heads

    @torch.inference_mode()
    def align(self, wave: Tensor, text: str, timing: Any = None, offset: float = 0.0) -> Hypothesis:
        """One waveform [S] and its text → word times."""
        if not text.strip():
            raise ValueError("the text is empty: there is nothing to align")
        if self.known:
            return self._follow(wave, text, timing, offset)
        if self.heads is None:
            self.choose([(wave, text)])
        weights, log_probs, tokens = self._weights(wave, text)
        peaks = [float(log_probs[:, token].max()) for token in tokens]
        spans = attention_spans(weights, tokens, peaks, heads=self.heads, width=self.width)
        model, seconds = self.recognizer.model, len(wave) / RATE
        words = words_from_tokens(spans, self.recognizer.vocabulary, model.seconds_per_frame, timing=timing, duration=seconds,
                                  offset=offset)
        return Hypothesis(text, words, 0.0, tokens, seconds)

    def _follow(self, wave: Tensor, text: str, timing: Any, offset: float) -> Hypothesis:
        """By the heads that are known."""
        recognizer, model, seconds = self.recognizer, self.recognizer.model, len(wave) / RATE
        tokens = recognizer.vocabulary.encode(text.capitalize() if text.isupper() else text)  # capitals alone it spells letter by letter
        states, lengths = model.encode(audio_batch(wave).to(getattr(recognizer, "device", "cpu")))[:2]
        decoder = model.heads.decoder
        if len(tokens) > decoder.most_tokens:
            raise ValueError(f"the text has {len(tokens)} tokens, and the decoder says at most {decoder.most_tokens}: cut it")
        weights, log_probs, first = decoder.follow(states, lengths, [tokens])[0]
        spans = spoken_spans(weights.cpu().numpy(), tokens, log_probs.tolist(), recognizer.vocabulary, frames=int(lengths[0]), first=first)
        words = words_from_tokens(spans, recognizer.vocabulary, model.seconds_per_frame, timing=timing, duration=seconds, offset=offset)
        if len(written := text.split()) == len(words):
            words = [replace(word, word=spelling) for word, spelling in zip(words, written)]
        return Hypothesis(text, words, float(log_probs.sum()), tokens, seconds)

    def _weights(self, wave: Tensor, text: str) -> tuple[np.ndarray, Tensor, list[int]]:
        """→ attention [L, H, U + 1, T], CTC log-probabilities [T, V], tokens."""
        model, device = self.recognizer.model, getattr(self.recognizer, "device", "cpu")
        tokens = self.recognizer.vocabulary.encode(text)
        states, lengths = model.encode(audio_batch(wave).to(device))[:2]
        decoder = model.heads.decoder
        inputs = torch.tensor([[decoder.bos, *tokens]], device=device)
        frames = int(lengths[0])
        weights = decoder.attention_weights(inputs, states, lengths)[:, 0, :, :, :frames].cpu().numpy()
        return weights, model.heads.ctc(states)[0, :frames].cpu(), tokens


class WhisperAligner:
    """Word times of a given text by Whisper's alignment heads (openai/whisper timing.py: softmax, normalize, median filter, DTW).

    Args:
        folder: a Hugging Face folder or name of a Whisper model, its generation_config with `alignment_heads`.

    Raises:
        ValueError: no such folder or name, or no whole Whisper model; MissingPackage: transformers.
    """

    def __init__(self, folder: str | os.PathLike, device: torch.device | str = "cpu") -> None:
        transformers = require("transformers", "pretrained", why="word times by Whisper")
        local = is_folder(str(folder))
        with reading("Whisper model", str(folder), local):
            self.model = transformers.WhisperForConditionalGeneration.from_pretrained(folder, attn_implementation="eager",
                                                                                      local_files_only=local)
            self.features = transformers.WhisperFeatureExtractor.from_pretrained(folder, local_files_only=local)
            self.tokenizer = transformers.WhisperTokenizer.from_pretrained(folder, local_files_only=local)
        self.model.to(device).float().eval()
        self.device = device
        heads = getattr(self.model.generation_config, "alignment_heads", None)
        self.heads = [tuple(h) for h in heads] if heads else None
        self.start = self.tokenizer.convert_tokens_to_ids(["<|startoftranscript|>"])
        if getattr(self.model.generation_config, "is_multilingual", False):
            self.start += self.tokenizer.convert_tokens_to_ids(["<|en|>", "<|transcribe|>"])

    @torch.inference_mode()
    def align(self, wave: Tensor, text: str, timing: Any = None, offset: float = 0.0) -> Hypothesis:
        """One waveform [S] of at most 30 s and its text (spelled as it is in the words; Whisper is given it in lower case)."""
        seconds, words = len(wave) / RATE, text.split()
        if not words:
            raise ValueError("the text is empty: there is nothing to align")
        if seconds > 30:
            raise ValueError(f"{seconds:.1f} s of audio: Whisper hears 30 s at most; cut it")
        spelled = [self.tokenizer.encode(" " + word.lower(), add_special_tokens=False) for word in words]
        tokens = [token for word in spelled for token in word]
        end = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        prompt = [*self.start, self.tokenizer.convert_tokens_to_ids("<|notimestamps|>")]
        features = self.features(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_features.to(self.device)
        out = self.model(input_features=features, decoder_input_ids=torch.tensor([[*prompt, *tokens]], device=self.device),
                         output_attentions=True)
        # row u predicts token u; the last one the end
        weights = torch.stack([w[0] for w in out.cross_attentions])[:, :, len(prompt) - 1:].cpu().numpy()
        log_probs = out.logits[0, len(prompt) - 1:-1].float().log_softmax(-1).gather(1, torch.tensor(tokens, device=self.device)[:, None])
        frames = max(len(tokens) + 1, int(seconds / 0.02))
        spans = attention_spans(weights, [*tokens, end], [*log_probs[:, 0].tolist(), 0.0], heads=self.heads, frames=min(frames, 1500))
        timed, at = [], 0
        for word, pieces in zip(words, spelled):
            part = spans[at:at + len(pieces)]
            at += len(pieces)
            confidence = float(torch.tensor([s.peak for s in part]).mean().exp())
            start, stop = part[0].start * 0.02, min(spans[at].start * 0.02, seconds)
            timed.append(Word(word, start + offset, max(start, stop) + offset, confidence))
        return Hypothesis(text, timed, float(log_probs.sum()), tokens, seconds)
