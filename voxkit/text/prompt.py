"""What a language model is told before the audio: one path for training and for use.

    before = prompt.before(Request(phrases=("zerg", "creep"), previous="they are at the gate"))
    ids that come in front of the audio; `prompt.after` stands between the audio and the transcript.

Where the model was trained on conversations, its own chat template is the frame. What people write is spelled letter by letter where it
holds the name of a special token: nobody can end the instruction from within a list of phrases.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from voxkit.optional import require
from voxkit.text.llm_vocabulary import LLMVocabulary

_AUDIO = "\ue000"  # of the private use area: stands for the audio in a template


@dataclass
class PromptConfig:
    """Attributes:
    instruction: what to do; empty: nothing is said.
    language: named behind the instruction; empty: none.
    phrases_share: in training, share of the utterances that get a list of phrases.
    phrases: of a list, at most; own_share: of an utterance's own words, how many get into its list; the others come from elsewhere, so that
        a list is worth reading and not worth repeating.
    previous_share: in training, share of the utterances that are told what was said before.
    """

    instruction: str = "Transcribe the speech."
    language: str = ""
    phrases_share: float = 0.0
    phrases: int = 20
    own_share: float = 0.5
    previous_share: float = 0.0

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is not in [0, 1]" for name in ("phrases_share", "own_share", "previous_share")
                 if not 0 <= getattr(self, name) <= 1]
        return found + ([f"phrases: {self.phrases} is below 1"] if self.phrases < 1 else [])


@dataclass(frozen=True)
class Request:
    """What to say before an utterance.

    Attributes:
        instruction, language: None: the configuration's.
        phrases: that may occur in the audio.
        previous: what was said before it.
    """

    instruction: str | None = None
    phrases: tuple[str, ...] = ()
    previous: str = ""
    language: str | None = None


class Prompt:
    """Prompts of one language model.

    Args:
        vocabulary: of the speech model; the ids here are the language model's own.
        config: what is said by default.

    Attributes:
        after: ids between the audio and the transcript.

    Raises:
        ValueError: a chat template that cannot be filled; MissingPackage: jinja2, where there is one.
    """

    def __init__(self, vocabulary: LLMVocabulary, config: PromptConfig | None = None) -> None:
        self.base, self.config = vocabulary.base, config or PromptConfig()
        bos = "" if self.base.bos is None else self.base.pieces[self.base.bos]
        head, tail = _frame(self.base.chat_template, bos) if self.base.chat_template else (bos, "\n")
        self._head, self.after = self.base.encode_marked(head), self.base.encode_marked(tail)
        self._line = self.base.encode_marked("\n")

    def before(self, request: Request | None = None) -> list[int]:
        """Ids in front of the audio; None: what the configuration says."""
        request = request or Request()
        instruction = self.config.instruction if request.instruction is None else request.instruction
        language = self.config.language if request.language is None else request.language
        lines = [instruction, f"Language: {language}." if language else "",
                 f"Words: {', '.join(request.phrases)}." if request.phrases else "",
                 f"Before: {request.previous}" if request.previous else ""]
        ids = list(self._head)
        for line in filter(None, (" ".join(line.split()) for line in lines)):
            ids += [*self.base.encode(line), *self._line]
        return ids

    def draw(self, rng: random.Random, text: str, words: Sequence[str] = (), previous: str = "") -> list[int]:
        """A prompt for training on an utterance.

        Args:
            text: its transcript; words: of other utterances, for lists; previous: the transcript before it.
        """
        phrases: list[str] = []
        if words and rng.random() < self.config.phrases_share:
            own = sorted(set(text.split()))
            kept = rng.sample(own, round(self.config.own_share * len(own)))[:self.config.phrases]
            others = rng.sample(list(words), min(len(words), rng.randint(0, self.config.phrases - len(kept))))
            phrases = sorted({*kept, *others}, key=lambda _: rng.random())
        said_before = previous if previous and rng.random() < self.config.previous_share else ""
        return self.before(Request(phrases=tuple(phrases), previous=said_before))


def _frame(template: str, bos: str) -> tuple[str, str]:
    """What a chat template writes in front of and behind the words of the user, up to where the answer begins."""
    sandbox = require("jinja2.sandbox", "llm", why="the language model's chat template")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment.globals["raise_exception"] = refuse
    try:
        text = environment.from_string(template).render(messages=[{"role": "user", "content": _AUDIO}], add_generation_prompt=True,
                                                        bos_token=bos, eos_token="", enable_thinking=False)
        head, tail = text.split(_AUDIO)
    except Exception as error:  # jinja2's are of several kinds
        raise ValueError(f"the language model's chat template cannot be filled ({error}); remove it to go without") from error
    return head, tail
