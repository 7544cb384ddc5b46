"""What a system is made of, and the table of systems.

A new system is a file of voxkit/models that ends with `SYSTEM = System(...)`, and one line in the table here. Everything else that
differs between systems is named in that value: how its training data are read, what validation measures, how the trained model is used.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxkit.text.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from voxkit.models.contract import SpeechModel

SYSTEMS = {  # name → the module whose SYSTEM it is
    "voxformer": "voxkit.models.voxformer",
    "paraformer": "voxkit.models.paraformer",
    "whisper": "voxkit.models.whisper",
    "token_lm": "voxkit.models.token_lm",
    "lact_asr": "voxkit.models.lact_asr",
    "voxlm": "voxkit.models.voxlm",
    "codec": "voxkit.models.codec",
    "lact_audio": "voxkit.models.lact_audio",
}


@dataclass(frozen=True)
class TokenIds:
    """What a network must know of its vocabulary: size, and the ids of CTC's blank and of a sentence's begin and end; None: it has none.
    The defaults are those of the vocabularies that `voxkit tokenize` makes."""

    size: int
    blank: int | None = 0
    bos: int | None = 1
    eos: int | None = 2


@dataclass(frozen=True)
class System:
    """A way from data to a trained model and its use.

    Attributes:
        config: dataclass of the configuration's `model` part; has `vocab_size`.
        model: (configuration with `vocab_size` set, vocabulary, or its size and the ids of its special tokens) → a fresh model; ValueError
            where it cannot work with these.
        reader: how training data become batches, a key of voxkit.training.READERS: "speech", "sentences", "speech_llm", "audio", "codes".
        evaluation: what validation measures, a key of voxkit.training.EVALUATIONS: "recognition", "perplexity", "reconstruction".
        metric, mode: which of its numbers says what is best, and whether "min" or "max" is, where train.metric names none.
        use: what a trained model is for: "recognizer", "language_model", "codec", "generator".
        graphs: what `voxkit export` writes of it, names of voxkit.export's table; empty: it cannot be exported.
        vocabulary: the path in the configuration's `tokenizer` → vocabulary; `no_text`: the system has none, and no tokenizer is named.
    """

    config: type
    model: Callable[[Any, Any], SpeechModel]
    reader: str = "speech"
    evaluation: str = "recognition"
    metric: str = "wer"
    mode: str = "min"
    use: str = "recognizer"
    graphs: tuple[str, ...] = ()
    vocabulary: Callable[[str | os.PathLike], Vocabulary] = load_vocabulary

    def build(self, config: Any, vocabulary: Vocabulary | TokenIds) -> SpeechModel:
        """A fresh model over a vocabulary, whose size is written into the configuration.

        Raises:
            ValueError: the configuration names another size.
        """
        if config.vocab_size not in (0, vocabulary.size):
            raise ValueError(f"model.vocab_size is {config.vocab_size} but the tokenizer has {vocabulary.size} pieces: they do not belong "
                             "together; leave the option out, or name the tokenizer of that size")
        config.vocab_size = vocabulary.size
        return self.model(config, vocabulary)


def find_system(name: str) -> System:
    """The system of a name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in SYSTEMS:
        raise ValueError(f"system: {name!r} is none of {', '.join(SYSTEMS)}")
    return importlib.import_module(SYSTEMS[name]).SYSTEM
