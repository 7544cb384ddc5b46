"""How to search: the options of every method, as commands, configurations and records name them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from voxkit.search.hallucination import StopRule
from voxkit.search.scorer import Scorer, combine
from voxkit.text.prompt import Request

TIMES = ("alignment", "peaks")


class TextScorer(Protocol):
    """A language model over text (`voxkit.infer.pretrained_lm.PretrainedLM`)."""

    def score(self, texts: Sequence[str]) -> list[float]:
        """Log-probability of each text, in nats."""


@dataclass
class SearchOptions:
    """Attributes:
    method: a row of voxkit.search.method.METHODS, by name.
    beam: hypotheses kept.
    ctc_weight: of the CTC score in joint decoding, rescoring and a parallel decoder's beam; the rest is the decoder's.
    lm, lm_weight: scorer over the same tokens (`Recognizer.language_model`), and its weight.
    context: scorer of phrases (`Recognizer.phrases`).
    rescore_lm, rescore_weight: language model over text, by which the beam's hypotheses are ranked anew, and its weight;
        rescore_nbest: how many of them, None: all.
    length_bonus: added per token; in attention and joint for so many tokens as CTC expects (`expected_tokens`).
    length_limit: in attention and joint, how many times as many a hypothesis has at the most; infinite: no limit, of the bonus neither.
    coverage, length_power: of the attention decoder's beam (`attention_beam`); no length_power: 0.5 alone, 0 jointly with CTC, 1 for a
        transducer.
    internal_lm_weight: of the transducer's own language model, which its beam subtracts; symbols_per_frame: tokens that a frame of its
        greedy search may emit.
    words: also give word times and confidences.
    times: of words that CTC says: by forced "alignment" of what was found, or the "peaks" that the search itself saw.
    temperature: of the confidences, timing: of the word times, as `voxkit decode --calibrate` finds them.
    graph: decoding graph of the k2 methods (voxkit.search.k2_graphs).
    prompt: what a language model is told before the audio; None: what it was trained with.
    stop: what is taken for a hallucination of it; None: everything it says is believed.
    told: called with utterance and token as soon as it says one.
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm: Scorer | None = None
    lm_weight: float = 0.3
    context: Scorer | None = None
    rescore_lm: TextScorer | None = None
    rescore_weight: float = 0.3
    rescore_nbest: int | None = None
    length_bonus: float = 0.0
    length_limit: float = 1.2
    coverage: float = 0.0
    length_power: float | None = None
    internal_lm_weight: float = 0.0
    symbols_per_frame: int = 1
    words: bool = False
    times: str = "alignment"
    temperature: float = 1.0
    timing: Any = None
    graph: Any = None
    prompt: Request | None = None
    stop: StopRule | None = field(default_factory=StopRule)
    told: Callable[[int, int], None] | None = None

    @property
    def nbest(self) -> int:
        """How many hypotheses of an utterance the search should give."""
        return 1 if self.rescore_lm is None else self.rescore_nbest or self.beam

    def scorer(self, with_bonus: bool = True) -> Scorer | None:
        """Language model, phrases and bonus as one."""
        return combine(self.lm, self.lm_weight, context=self.context, bonus=self.length_bonus if with_bonus else 0.0)

    def check(self) -> None:
        """Refuse numbers that no search can weigh by.

        Raises:
            ValueError: one that is no number or infinite; a limit of length that allows for no token; more hypotheses for the second
                language model than the beam has.
        """
        for name in ("ctc_weight", "lm_weight", "rescore_weight", "length_bonus", "coverage", "length_power", "temperature",
                     "internal_lm_weight"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"--{name.replace('_', '-')} {value:g}: it is a weight in a sum of scores, a finite number")
        if not self.symbols_per_frame >= 1:
            raise ValueError(f"--symbols-per-frame {self.symbols_per_frame}: a frame has to be able to emit a token, at least 1")
        if not self.temperature > 0:
            raise ValueError(f"temperature {self.temperature:g}: log-probabilities are divided by it, so that it is above 0")
        if not self.length_limit > 0:
            raise ValueError(f"--length-limit {self.length_limit:g}: it is how many times the tokens that CTC expects a hypothesis may "
                             "have, above 0, or inf")
        if self.rescore_lm is not None and self.rescore_nbest is not None and not 1 <= self.rescore_nbest <= self.beam:
            raise ValueError(f"--rescore-nbest {self.rescore_nbest}: a beam of {self.beam} has 1 to {self.beam} hypotheses to rank; widen "
                             "it with --beam, or omit the option for all of them")
        if self.times not in TIMES:
            raise ValueError(f"times {self.times!r} is none of {', '.join(TIMES)}")
