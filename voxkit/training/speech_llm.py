"""Reader of systems with a language model: speech with prompts and word times, or text alone while dev is heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from voxkit.data.llm_batches import LLMBatches
from voxkit.data.loader import build_eval_loader
from voxkit.data.sampler import text_of
from voxkit.data.sentences import SentenceLoader, read_sentences
from voxkit.data.sets import named_set, read_sets
from voxkit.models.contract import Listener
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World
from voxkit.training.speech import SpeechReader


class SpeechLLMReader(SpeechReader):
    """As `SpeechReader`; with data.input text, the transcripts of data.train (prepared sets or text files) without their audio.

    Attributes:
        train, dev: loaders; dev has audio in either case, and is None where no set is named.
    """

    def __init__(self, setup: Setup, model: Listener, vocabulary: Vocabulary, run_dir: Path, world: World) -> None:
        if setup.config.data.input != "text":
            super().__init__(setup, model, vocabulary, run_dir, world)
            return
        config, data = setup.config, setup.config.data
        self.setup, self.model, self.vocabulary, self.run_dir, self.world = setup, model, vocabulary, run_dir, world
        sentences = [vocabulary.encode(text) for text in read_sentences(data.data_dir, data.train)]
        self.train: Any = SentenceLoader(sentences, tokens=data.max_tokens, seed=config.seed, shuffle=data.shuffle, rank=world.rank,
                                         world_size=world.size)
        self.dev = None
        if data.dev:
            cuts = read_sets(data.data_dir, data.dev, config.decode.validation_limit)
            states = self._cache(cuts) if config.cache else None
            self.dev = build_eval_loader(cuts, vocabulary, data, rank=world.rank, world_size=world.size, states=states)

    def completion(self, training: bool) -> LLMBatches:
        """Word times where the alignment head learns; in training prompts as the configuration draws them."""
        config, model = self.setup.config, self.setup.model
        prompt, words = model.prompt, None
        if not training:
            prompt = replace(prompt, phrases_share=0.0, previous_share=0.0)
        elif prompt.phrases_share > 0:
            words = sorted({word for entry in config.data.train for cut in named_set(config.data.data_dir, entry)
                            for word in text_of(cut).split()})
        return LLMBatches(self.vocabulary, prompt, words, model.loss.alignment > 0, config.seed)

    @staticmethod
    def check(setup: Setup) -> None:
        """As `SpeechReader.check`; sets that are read as text need no audio."""
        if setup.config.data.input != "text":
            SpeechReader.check(setup)
