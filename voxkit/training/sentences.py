"""Reader of systems that learn from text alone."""

from __future__ import annotations

from pathlib import Path

from voxkit.data.sentences import SentenceLoader, read_sentences
from voxkit.models.contract import SpeechModel
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World


class SentenceReader:
    """data.train and data.dev as text files or prepared sets → batches of tokens.

    Attributes:
        train, dev: loaders; dev is None where no set is named.
    """

    def __init__(self, setup: Setup, model: SpeechModel, vocabulary: Vocabulary, run_dir: Path, world: World) -> None:
        data = setup.config.data
        self.train = self._loader(setup, data.train, vocabulary, world, shuffle=data.shuffle)
        self.dev = self._loader(setup, data.dev, vocabulary, world, shuffle=False) if data.dev else None

    def _loader(self, setup: Setup, entries: list[str], vocabulary: Vocabulary, world: World, shuffle: bool) -> SentenceLoader:
        data = setup.config.data
        sentences = [vocabulary.encode(text) for text in read_sentences(data.data_dir, entries)]
        return SentenceLoader(sentences, tokens=data.max_tokens, seed=setup.config.seed, shuffle=shuffle, rank=world.rank,
                              world_size=world.size)

    @staticmethod
    def check(setup: Setup) -> None:
        """Refuse before the run is begun what is seen when it begins: nothing else needs to be read for that."""
