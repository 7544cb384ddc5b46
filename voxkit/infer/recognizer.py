"""Recognizer: audio → Hypothesis, by any of the searches, for one file or a batch.

    recognizer = Recognizer.load("exp/stage3")
    print(recognizer.transcribe("order.wav").text)
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from voxkit.align.ctc import TokenSpan, forced_align, spans_from_peaks
from voxkit.align.timing import TokenTiming, WordTiming
from voxkit.align.words import words_from_tokens
from voxkit.audio.io import read_audio
from voxkit.batch import Batch, Padded, audio_batch
from voxkit.hypothesis import Hypothesis
from voxkit.infer import ctc, fusion
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.language_model import load_language_model
from voxkit.infer.parallel import NEED_CTC, PARALLEL_METHODS, PARALLEL_REFUSALS, recognize_parallel
from voxkit.infer.pretrained_lm import PretrainedLM
from voxkit.infer.rescoring import length_power, rank
from voxkit.models.contract import Encoded
from voxkit.optional import require
from voxkit.search import k2_graphs
from voxkit.search.attention import attention_beam
from voxkit.search.context_graph import ContextGraph
from voxkit.search.ctc_length import expected_tokens
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.scorer import Scorer, combine
from voxkit.text.vocabulary import Vocabulary


@dataclass
class SearchOptions:
    """How to search.

    Attributes:
        method: one of METHODS; of a model with a parallel decoder one of PARALLEL_METHODS (voxkit.infer.parallel).
        beam: hypotheses kept.
        ctc_weight: of the CTC score in joint decoding, rescoring and a parallel decoder's beam; the rest is the decoder's.
        lm, lm_weight: scorer over the same tokens (`Recognizer.language_model`), and its weight.
        context: scorer of phrases (`Recognizer.phrases`).
        rescore_lm, rescore_weight: language model over text, by which the beam's hypotheses are ranked anew, and its weight;
            rescore_nbest: how many of them, None: all.
        length_bonus: added per token; in attention and joint for so many tokens as CTC expects (`expected_tokens`).
        length_limit: in attention and joint, how many times as many a hypothesis has at the most; infinite: no limit, of the bonus neither.
        coverage, length_power: of the attention decoder's beam (`attention_beam`); no length_power: 0.5 alone, 0 jointly with CTC.
        words: also give word times and confidences.
        times: of words that CTC says: by forced "alignment" of what was found, or the "peaks" that the search itself saw (PEAKED alone).
        temperature: of the confidences, timing: of the word times, as `voxkit decode --calibrate` finds them.
        graph: decoding graph of the k2 methods (voxkit.search.k2_graphs).
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm: Scorer | None = None
    lm_weight: float = 0.3
    context: Scorer | None = None
    rescore_lm: PretrainedLM | None = None
    rescore_weight: float = 0.3
    rescore_nbest: int | None = None
    length_bonus: float = 0.0
    length_limit: float = 1.2
    coverage: float = 0.0
    length_power: float | None = None
    words: bool = False
    times: str = "alignment"
    temperature: float = 1.0
    timing: TokenTiming | WordTiming | None = None
    graph: Any = None

    @property
    def nbest(self) -> int:
        """How many hypotheses of an utterance the search should give."""
        return 1 if self.rescore_lm is None else self.rescore_nbest or self.beam

    def scorer(self, with_bonus: bool = True) -> Scorer | None:
        """Language model, phrases and bonus as one."""
        return combine(self.lm, self.lm_weight, context=self.context, bonus=self.length_bonus if with_bonus else 0.0)


class Recognizer:
    """A model with a CTC head and maybe an attention decoder, or a parallel one, its tokenizer, and the searches over their scores.

    Args:
        model: with `encode(batch)`, `ctc_log_probs(states)`, `decoder` (or None) and `seconds_per_frame`; one with a parallel decoder has
            `predict(states, lengths)`.
        vocabulary: the one it was trained with.
        device: where the model is.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary, device: torch.device | str = "cpu") -> None:
        self.model, self.vocabulary, self.device = model, vocabulary, torch.device(device)

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> Recognizer:
        """From a checkpoint or run directory."""
        loaded = load_checkpoint(path, device, overrides)
        return cls(loaded.model, loaded.tokenizer, device)

    def language_model(self, path: str | os.PathLike) -> Scorer:
        """An n-gram in ARPA or KenLM's binary format, or a neural one's directory, over this tokenizer's pieces.

        Raises:
            ValueError: it is over other tokens, or nothing of the three.
        """
        return load_language_model(path, self.vocabulary, self.device)

    def phrases(self, phrases: Sequence[str] | Mapping[str, float], boost: float = 1.5) -> ContextGraph:
        """Phrases that the search should favour by `boost` nats per token, or each by its own.

        Raises:
            ValueError: none, or one that this tokenizer cannot spell.
        """
        return ContextGraph.from_texts(phrases, self.vocabulary, boost)

    def methods(self) -> list[str]:
        """The searches that this model can do."""
        if self._parallel:
            return [m for m in PARALLEL_METHODS if m not in NEED_CTC or self.model.ctc is not None]
        return [m for m in METHODS if m not in NEEDS_DECODER or self.model.decoder is not None]

    def check(self, options: SearchOptions) -> None:
        """Refuse what is no search of this model.

        Raises:
            MissingPackage: a method of k2's, which cannot be imported.
            ValueError: an unknown method, one that needs the decoder or the CTC head this model was trained without, or a graph that is not
                given or does not fit; times that the method cannot say; more hypotheses for the second language model than there are; a
                limit of length that allows for none.
        """
        self._check_method(options.method)
        self._check_k2(options)
        self._check_times(options)
        if not options.length_limit > 0:
            raise ValueError(f"--length-limit {options.length_limit:g}: it is how many times the tokens that CTC expects a hypothesis may "
                             "have, above 0, or inf")
        if options.rescore_lm is not None and options.rescore_nbest is not None and not 1 <= options.rescore_nbest <= options.beam:
            raise ValueError(f"--rescore-nbest {options.rescore_nbest}: a beam of {options.beam} has 1 to {options.beam} hypotheses to "
                             "rank; widen it with --beam, or leave the option away for all of them")

    def _check_method(self, method: str) -> None:
        if self._parallel:
            if method not in PARALLEL_METHODS:
                raise ValueError(f"method {method!r} is none of {', '.join(PARALLEL_METHODS)}, the searches of a parallel decoder")
            if method not in self.methods():
                raise ValueError(f"method {method}: this model has no CTC head (model.loss.ctc is 0); use {' or '.join(self.methods())}")
        elif method not in METHODS:
            raise ValueError(f"method {method!r} is none of {', '.join(METHODS)}")
        elif method in NEEDS_DECODER and self.model.decoder is None:
            raise ValueError(f"method {method} needs an attention decoder, and this model was trained with CTC alone; "
                             "use greedy or prefix_beam")

    def _check_k2(self, options: SearchOptions) -> None:
        if not options.method.startswith("k2_"):
            return
        require("k2", why=f"method {options.method}")
        if METHODS[options.method] is not _k2_graph:
            return
        if options.graph is None:
            raise ValueError(f"method {options.method} needs --graph; `voxkit lm graph` makes one")
        if options.graph.vocab_size != self.vocabulary.size:
            raise ValueError(f"the graph is over {options.graph.vocab_size} tokens, the model has {self.vocabulary.size}: make it "
                             "with the model's tokenizer (`voxkit lm graph --tokenizer`)")
        if options.method.endswith("rescoring") and options.graph.large is None:
            raise ValueError(f"{options.method} needs a graph with a larger model: `voxkit lm graph --rescore-lm`")

    def _check_times(self, options: SearchOptions) -> None:
        if options.times not in TIMES:
            raise ValueError(f"times {options.times!r} is none of {', '.join(TIMES)}")
        peaked = [method for method in self.methods() if method in PEAKED and (method != "greedy" or not self._parallel)]
        if options.times == "peaks" and options.method not in peaked:
            raise ValueError(f"method {options.method} has no CTC peaks; --times peaks is for {', '.join(peaked)}, the others are aligned")

    def refusal(self, options: SearchOptions) -> str | None:
        """Why the method cannot take the options' language model or phrases, with those that can; None where it takes all of them."""
        return fusion.refusal(options, self._refusals, self.methods)

    def refused(self, options: SearchOptions) -> list[str]:
        """Those of the options' attributes (lm, context) that their method does not take."""
        return fusion.refused(options, self._refusals)

    def transcribe(self, audio: str | os.PathLike | Tensor, options: SearchOptions | None = None) -> Hypothesis:
        """One file, or one waveform [S] at 16 kHz. A file that ends in .npy holds features [T, F] instead of audio."""
        return self.recognize(read_input(audio), options)[0]

    @torch.inference_mode()
    def recognize(self, batch: Batch, options: SearchOptions | None = None) -> list[Hypothesis]:
        """A batch → its hypotheses, in order.

        Raises:
            ValueError: a method that this model lacks (`check`), or that does not take what the options hold (`refusal`).
        """
        options = options or SearchOptions()
        self._ready(options)
        return self.search(self.encode(batch), options)

    @torch.inference_mode()
    def encode(self, batch: Batch) -> Encoded:
        """The part of `recognize` that is the same for all searches: a batch of audio, features or cached states → its states."""
        return self.model.encode(batch.to(self.device))

    @torch.inference_mode()
    def search(self, encoded: Encoded, options: SearchOptions) -> list[Hypothesis]:
        """The rest of it: what was encoded → its hypotheses, in order.

        Raises:
            ValueError: as `recognize`.
        """
        self._ready(options)
        states, lengths = encoded.states, encoded.lengths
        if self._parallel:
            return recognize_parallel(self, states, lengths, encoded.seconds, options)
        log_probs = self.model.ctc_log_probs(states)
        found = rank(METHODS[options.method](self.model, states, lengths, log_probs, options), self.vocabulary, options)
        if METHODS[options.method] is _k2_graph:  # words → their tokens
            for h in found:
                h.tokens = [t for word in h.tokens for t in self.vocabulary.encode(options.graph.words[word])]
        out = self.hypotheses(found, encoded.seconds)
        if options.words:
            self.add_words(out, found, log_probs, lengths, options)
        return out

    def hypotheses(self, found: Sequence[Any], seconds: Sequence[float] | Tensor) -> list[Hypothesis]:
        """What a search found (tokens, score) in so many seconds of audio, as text."""
        spoken = [self.vocabulary.spoken(h.tokens) for h in found]
        return [Hypothesis(self.vocabulary.decode(t), [], float(h.score), t, float(s)) for h, t, s in zip(found, spoken, seconds)]

    def _ready(self, options: SearchOptions) -> None:
        if reason := self.refusal(options):
            raise ValueError(reason)
        self.check(options)

    @property
    def _refusals(self) -> fusion.Refusals:
        return PARALLEL_REFUSALS if self._parallel else REFUSALS

    @property
    def _parallel(self) -> bool:
        return hasattr(self.model, "predict")

    def add_words(self, hypotheses: list[Hypothesis], found: Sequence[Any], log_probs: Tensor, lengths: Tensor,
                  options: SearchOptions) -> None:
        """Times and confidences of the found words, by aligning them with CTC or as the search found them; none where a decoder said more
        than fits the frames."""
        if options.times == "peaks":
            self.add_peaked_words(hypotheses, found, options)
        else:
            self._place_words(hypotheses, self._aligned(hypotheses, log_probs, lengths), options)

    def add_peaked_words(self, hypotheses: list[Hypothesis], found: Sequence[Any], options: SearchOptions) -> None:
        """The same as the search found them."""
        self._place_words(hypotheses, {i: spans_from_peaks(h) for i, h in enumerate(found)}, options)

    def _place_words(self, hypotheses: list[Hypothesis], spans: Mapping[int, list[TokenSpan]], options: SearchOptions) -> None:
        for i, of_one in spans.items():
            hypotheses[i].words = words_from_tokens(of_one, self.vocabulary, self.model.seconds_per_frame, timing=options.timing,
                                                    duration=hypotheses[i].audio_duration, temperature=options.temperature)

    def _aligned(self, hypotheses: list[Hypothesis], log_probs: Tensor, lengths: Tensor) -> dict[int, list[TokenSpan]]:
        """Index → spans, of the hypotheses that fit their frames."""
        kept = [i for i, h in enumerate(hypotheses) if h.tokens and _frames_needed(h.tokens) <= int(lengths[i])]
        if not kept:
            return {}
        sizes = torch.tensor([len(hypotheses[i].tokens) for i in kept])
        tokens = torch.zeros(len(kept), int(sizes.max()), dtype=torch.long)
        for row, i in zip(tokens, kept):
            row[:len(hypotheses[i].tokens)] = torch.tensor(hypotheses[i].tokens)
        return {i: found.spans for i, found in zip(kept, forced_align(log_probs[kept].cpu(), lengths[kept].cpu(), tokens, sizes))}


def read_input(source: str | os.PathLike | Tensor) -> Batch:
    """An audio file, a waveform [S] at 16 kHz, or a .npy file of features [T, F] at 100 frames/s → a batch of one.

    Raises:
        ValueError: no such file, no audio; features of another shape, without frames, or that are no numbers.
    """
    if not isinstance(source, Tensor) and str(source).endswith(".npy"):
        return _read_features(source)
    wave = source if isinstance(source, Tensor) else read_audio(source)[0]
    name = "audio" if isinstance(source, Tensor) else str(source)
    return audio_batch(wave, name)


def _read_features(path: str | os.PathLike) -> Batch:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file of features")
    array = np.load(path, allow_pickle=False)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{path}: features are finite numbers [frames, bins], this is {array.dtype} {list(array.shape)}")
    return Batch([str(path)], features=Padded.of([torch.from_numpy(array.astype(np.float32))]))


def _frames_needed(tokens: list[int]) -> int:
    """Of a CTC alignment: one per token, and a blank between two equal ones."""
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:]))


def _greedy(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    return ctc.greedy(log_probs, lengths, options)


def _prefix_beam(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    return ctc.prefix_beam(log_probs, lengths, options)


def _attention(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    return attention_beam(model.decoder, states, lengths, options.beam, **_beam_options(lengths, log_probs, options))


def _joint(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    return attention_beam(model.decoder, states, lengths, options.beam, ctc_log_probs=log_probs, ctc_weight=options.ctc_weight,
                          **_beam_options(lengths, log_probs, options))


def _beam_options(lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> dict[str, Any]:
    expected = expected_tokens(log_probs, lengths) if options.length_limit < math.inf else None
    return {"nbest": options.nbest, "scorer": options.scorer(with_bonus=False), "token_bonus": options.length_bonus, "expected": expected,
            "length_limit": options.length_limit, "length_power": length_power(options), "coverage": options.coverage,
            "candidates": ctc.candidates(options)}


def _rescoring(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    return ctc.rescoring(log_probs, lengths, options, states, model.decoder.score)


def _k2_ctc(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    graph = k2_graphs.ctc_graph(log_probs.shape[2], log_probs.device)
    return [[h] for h in k2_graphs.one_best(*k2_graphs.lattice(graph, log_probs, lengths))]


def _k2_graph(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    """1-best, n-best or rescoring over a graph of words: hypotheses of word ids."""
    graph = options.graph
    found, order = k2_graphs.lattice(graph.fsa, log_probs, lengths)
    if options.method == "k2_rescoring":
        return [[h] for h in k2_graphs.one_best(k2_graphs.rescore_lattice(found, graph.large), order)]
    if options.method == "k2_hlg":
        return [[h] for h in k2_graphs.one_best(found, order)]
    large = graph.large if options.method == "k2_nbest_rescoring" else None
    rows = k2_graphs.n_best(found, order, max(100, options.beam), large)
    return [row or [CtcHypothesis([], -math.inf)] for row in rows]


METHODS = {"greedy": _greedy, "prefix_beam": _prefix_beam, "attention": _attention, "joint": _joint, "rescoring": _rescoring,
           "k2_ctc": _k2_ctc, "k2_hlg": _k2_graph, "k2_nbest": _k2_graph, "k2_nbest_rescoring": _k2_graph,
           "k2_rescoring": _k2_graph}
NEEDS_DECODER = ("attention", "joint", "rescoring")
PEAKED = ("greedy", "ctc_greedy", "prefix_beam")  # methods whose hypotheses say at which frames of CTC their tokens are
TIMES = ("alignment", "peaks")
_BY_GRAPH = (("lm", "context", "rescore_lm"), "it scores by its graph alone, which can hold a language model (`voxkit lm graph`)")
REFUSALS: fusion.Refusals = {"greedy": (("lm", "rescore_lm"), fusion.ALONE), **{m: _BY_GRAPH for m in METHODS if m.startswith("k2_")}}
