"""What a speech model with a language model reads besides audio and transcript: prompts, and where the words lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from voxkit.batch import Batch, Padded
from voxkit.data.augment import utterance_rng
from voxkit.data.word_times import token_spans
from voxkit.text.prompt import Prompt, PromptConfig


class LLMBatches:
    """Completes batches of training; pickled into the loader's workers.

    Args:
        vocabulary: of the model; config: what prompts are like.
        words: that lists of phrases are filled up with, such as the words of the corpus.
        word_times: whether batches get the places of words, where the cuts know them.
        seed: of the prompts.
    """

    def __init__(self, vocabulary: Any, config: PromptConfig, words: list[str] | None = None, word_times: bool = False,
                 seed: int = 0) -> None:
        self.vocabulary, self.words, self.word_times, self.seed = vocabulary, words or [], word_times, seed
        self.prompt = Prompt(vocabulary, config)
        self.draws = config.phrases_share > 0 or config.previous_share > 0

    def __call__(self, batch: Batch, cuts: list[Any], epoch: int) -> Batch:
        """The batch of these cuts with prompts drawn for this epoch, and word times."""
        if self.draws:
            drawn = [self._prompt(cut, text, epoch) for cut, text in zip(cuts, batch.texts or ())]
            batch = replace(batch, prompt=Padded.of([torch.tensor(ids, dtype=torch.long) for ids in drawn]))
        if self.word_times:
            assert batch.tokens is not None, "speech is read with its tokens"
            spans = [token_spans(cut, tokens[:n].tolist(), self.vocabulary)
                     for cut, tokens, n in zip(cuts, batch.tokens.values, batch.tokens.lengths.tolist())]
            batch = replace(batch, spans=Padded.of(spans))
        return batch

    def _prompt(self, cut: Any, text: str, epoch: int) -> list[int]:
        rng = utterance_rng(self.seed, epoch, cut.id, "prompt")
        return self.prompt.draw(rng, text, self.words, (cut.supervisions[0].custom or {}).get("previous_text", ""))
