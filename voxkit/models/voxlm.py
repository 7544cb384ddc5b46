"""VoxLM: any audio encoder → projector → any causal language model with LoRA; CTC over the language model's own tokens; word times.

    audio ─ front end ─ encoder ─ frames ─┬─ CTC ─────────┐ posteriors weigh embeddings (lexical)
                                          ├─ projector ───┴─ language model ─ transcript ─ text states ─┐
                                          └──────────────────────────────── alignment head ─────────────┴─ word times

It is trained in phases, each the start of the next: CTC alone; the language model on misspelled text alone; both together; the alignment
head (docs/training.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.batch import Batch, Padded
from voxkit.decoders.alignment_head import AlignmentConfig, AlignmentHead
from voxkit.decoders.llm_config import LLMConfig
from voxkit.decoders.speech_llm import END, Examined, SpeechLLM, SpeechState
from voxkit.encoders.build import build_encoder
from voxkit.encoders.front_end import FrontEndConfig, build_front_end
from voxkit.encoders.projector import Projected, ProjectorConfig, build_projector
from voxkit.hub import builds_shapes_only
from voxkit.losses.hybrid import ctc_loss
from voxkit.losses.linear_cross_entropy import linear_cross_entropy
from voxkit.models.contract import Losses
from voxkit.models.front_end_listener import FrontEndListener, HeardBatch
from voxkit.search.heads import Heads
from voxkit.system import System, TokenIds
from voxkit.text.llm_vocabulary import LLMVocabulary
from voxkit.text.prompt import Prompt, PromptConfig, Request
from voxkit.text.spelling_errors import misspell
from voxkit.text.vocabulary import Vocabulary

PARTS = ("front_end", "encoder", "ctc", "projector", "llm", "alignment")
_UNHEARD = -1e4  # log-probability of what CTC does not tell apart


@dataclass
class VoxLMLossConfig:
    """Weights of the losses, all per token of the transcripts and their ends.

    Attributes:
        ctc: over the language model's tokens.
        transcript: cross-entropy of the transcript under the language model.
        text: cross-entropy of the transcript behind its own misspelled text, beside what was heard: on speech that CTC knows by heart the
            language model would unlearn to doubt it.
        alignment: of the word that each frame belongs to, where the cuts know their word times.
    """

    ctc: float = 0.3
    transcript: float = 1.0
    text: float = 0.0
    alignment: float = 0.0

    def problems(self) -> list[str]:
        weights = (self.ctc, self.transcript, self.text, self.alignment)
        if not all(0 <= weight < float("inf") for weight in weights):
            return [f"ctc, transcript, text, alignment: {weights} are not all numbers of at least 0"]
        return [] if any(weights) else ["transcript: with the others 0 too, nothing would be trained"]


@dataclass
class SpellingConfig:
    """Training on text alone: the language model reads its own embeddings of a misspelled text in place of audio.

    Attributes:
        rate: wrong letters, as a share; word_rate: words left out, torn apart or joined. Each text has a share of its own around these.
    """

    rate: float = 0.08
    word_rate: float = 0.05

    def problems(self) -> list[str]:
        return [f"{name}: {value} is not in [0, 0.5]" for name, value in (("rate", self.rate), ("word_rate", self.word_rate))
                if not 0 <= value <= 0.5]


@dataclass
class VoxLMConfig:
    """Attributes:
    vocab_size: tokens of the vocabulary of `voxkit tokenize --kind llm`; 0 = as it says.
    front_end, encoder: as VoxFormer's, whose checkpoint may be their start (init_parts); encoder {kind: none} adds nothing to a pretrained
        front end.
    llm, projector, alignment, prompt: the language model, what stands before it, the head for word times, what it is told.
    loss: weights. spelling: of training on text alone.
    learns: the parts that learn in this phase; the others are as they are.
    dropout: on the frames before the CTC head, in training.
    """

    vocab_size: int = 0
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    llm: LLMConfig = field(default_factory=LLMConfig)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    loss: VoxLMLossConfig = field(default_factory=VoxLMLossConfig)
    spelling: SpellingConfig = field(default_factory=SpellingConfig)
    learns: list[str] = field(default_factory=lambda: ["front_end", "encoder", "ctc", "projector", "llm"])
    dropout: float = 0.1

    def problems(self) -> list[str]:
        found = [f"learns: {name!r} is none of {', '.join(PARTS)}" for name in self.learns if name not in PARTS]
        if not self.learns:
            found.append(f"learns: empty; name parts out of {', '.join(PARTS)}")
        if not 0 <= self.dropout < 1:
            found.append(f"dropout: {self.dropout} is not in [0, 1)")
        return found


class VoxLM(FrontEndListener):
    """The network; `voxkit.infer.voxlm.VoxLM` is what transcribes.

    Args:
        config: of all parts.
        vocabulary: the language model's tokens as this model says them; None: shapes alone, within `shape_only`.

    Raises:
        ConfigError: an encoder option that does not exist; ValueError: a language model or an encoder that cannot be read, or a vocabulary
            of another size than the configuration says.
    """

    def __init__(self, config: VoxLMConfig, vocabulary: LLMVocabulary | None = None) -> None:
        front_end = build_front_end(config.front_end)
        super().__init__(front_end, build_encoder(config.encoder, front_end.output_dim))
        self.config, self.vocabulary = config, vocabulary
        if vocabulary is None:
            assert builds_shapes_only(), "a model that is used has a vocabulary"
            heard, self.prompt = config.vocab_size, None
            self.llm = SpeechLLM(config.llm, range(config.vocab_size), [], [0])
        else:
            if config.vocab_size not in (0, vocabulary.size):
                raise ValueError(f"model.vocab_size is {config.vocab_size}, and the vocabulary has {vocabulary.size} tokens: they do not "
                                 "belong together")
            heard, self.prompt = vocabulary.heard, Prompt(vocabulary, config.prompt)
            self.llm = SpeechLLM(config.llm, vocabulary.model_ids, self.prompt.before(), self.prompt.after)
        self.dropout = nn.Dropout(config.dropout)
        self.ctc = nn.Linear(self.encoder.output_dim, heard)
        self.projector = build_projector(config.projector, self.encoder.output_dim, self.llm.dim, self.llm.rms)
        self.alignment = AlignmentHead(config.alignment, self.llm.dim, self.encoder.output_dim)
        for name in set(PARTS) - set(config.learns):
            getattr(self, name).requires_grad_(False)

    def train(self, mode: bool = True) -> VoxLM:
        """Parts that do not learn stay as in use: no dropout, no masks."""
        super().train(mode)
        for name in set(PARTS) - set(self.config.learns):
            getattr(self, name).eval()
        return self

    def ctc_log_probs(self, states: Tensor) -> Tensor:
        """states [B, T, D] → [B, T, V], float32; tokens that CTC does not tell apart are never heard."""
        heard = self._heard(states)
        size = len(self.llm.model_ids)
        return heard if heard.shape[2] == size else F.pad(heard, (0, size - heard.shape[2]), value=_UNHEARD)

    def _heard(self, states: Tensor) -> Tensor:
        return self.ctc(self.dropout(states)).float().log_softmax(-1)

    def project(self, states: Tensor, lengths: Tensor, heard: Tensor | None = None) -> Projected:
        """Frames [B, T, D], lengths [B] → what the language model reads; `heard`: CTC's log-probabilities, where they are there already."""
        if not self.projector.needs_ctc:
            return self.projector(states, lengths)
        heard = self._heard(states) if heard is None else heard
        return self.projector(states, lengths, heard, self.llm.embed(self.llm.model_ids[:heard.shape[2]]))

    def loss(self, batch: Batch) -> Losses:
        """The losses of a batch, per token and end, nats; of one without audio that of misspelled text.

        Raises:
            ValueError: a batch without transcripts, or word times that are asked for and not there.
        """
        if batch.tokens is None:
            raise ValueError("the batch has no transcripts to learn from")
        if batch.audio is None and batch.features is None and batch.states is None:
            return self._summed({"transcript": self._transcript(*self._misspelled(batch), batch)[0]}, batch)
        return super().loss(batch)

    def loss_of(self, batch: Batch, heard: HeardBatch) -> Losses:
        """The losses of what was heard of a batch."""
        tokens, counts = batch.tokens.values, batch.tokens.lengths
        log_probs = self._heard(heard.states)
        sums: dict[str, Tensor] = {}
        if self.config.loss.ctc:
            sums["ctc"] = ctc_loss(log_probs, heard.lengths, tokens, counts).sum()
        if self.config.loss.transcript or self.config.loss.alignment:
            projected = self.project(heard.states, heard.lengths, log_probs)
            transcript, text = self._transcript(projected.embeddings, projected.lengths, batch)
            if self.config.loss.transcript:
                sums["transcript"] = transcript
            if self.config.loss.alignment:
                sums["alignment"] = self._alignment(text, batch, heard.states, heard.lengths)
        if self.config.loss.text:
            sums["text"] = self._transcript(*self._misspelled(batch), batch)[0]
        return self._summed(sums, batch)

    def _summed(self, sums: dict[str, Tensor], batch: Batch) -> Losses:
        weight = (batch.tokens.lengths + 1).sum()
        total = sum(getattr(self.config.loss, name) * value for name, value in sums.items())
        return Losses(total / weight, weight, {name: value.detach() / weight for name, value in sums.items()})

    def _transcript(self, audio: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """→ cross-entropy summed over tokens and ends, and the language model's states after each token [B, U, D]."""
        tokens, counts = batch.tokens.values, batch.tokens.lengths
        states, places = self.llm.label_states(audio, lengths, tokens, counts, batch.prompt)
        if not (self.config.loss.transcript or self.config.loss.text):
            return states.new_zeros(()), states[:, 1:]
        valid = torch.arange(states.shape[1], device=states.device) < places[:, None]
        targets = F.pad(tokens, (0, 1)).scatter(1, counts[:, None], END)
        head, bias = self.llm.candidate_head()
        return linear_cross_entropy(states[valid], head, targets[valid] - 1, bias, self.llm.softcap).sum(), states[:, 1:]

    def _misspelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of the batch's texts with errors, as the lexical projector would give them: [B, N, D], lengths [B]."""
        assert self.vocabulary is not None
        if not self.projector.needs_ctc:
            raise ValueError("training on text alone needs model.projector.kind: lexical; vectors of another projector are no embeddings")
        texts = [self.vocabulary.decode(row[:n].tolist()) for row, n in zip(batch.tokens.values, batch.tokens.lengths.tolist())]
        rng = random.Random(int(torch.randint(2**62, ())))  # torch's generator is in the training state: a resumed run draws the same
        spelling = self.config.spelling
        rows = [self.vocabulary.encode(misspell(text, rng, spelling.rate, spelling.word_rate) if self.training else text)
                for text in texts]
        padded = Padded.of([torch.tensor(row, dtype=torch.long) for row in rows]).to(self.llm.model_ids.device)
        return self.llm.embed(self.llm.model_ids[padded.values]), padded.lengths

    def _alignment(self, text: Tensor, batch: Batch, states: Tensor, lengths: Tensor) -> Tensor:
        if batch.spans is None:
            raise ValueError("model.loss.alignment: the batch knows no word times; give cuts that have them (`voxkit align "
                             "--out-cuts` makes some)")
        words, spans = word_spans(batch.spans)
        log_probs = self.alignment(text, words, states, lengths)
        return self.alignment.loss(log_probs, spans / self.seconds_per_frame, lengths)[0]

    def speaker(self, prompts: Sequence[Sequence[int]] | None = None) -> VoxLMDecoder:
        """The language model as searches know a decoder; with a prompt for each utterance (ids before the audio), or the default one."""
        if prompts is None:
            return VoxLMDecoder(self)
        padded = Padded.of([torch.tensor(list(ids), dtype=torch.long) for ids in prompts])
        return VoxLMDecoder(self, padded.to(self.llm.model_ids.device))

    @property
    def heads(self) -> Heads:
        """CTC over the language model's tokens, and the language model."""
        speaker = self.speaker()
        return Heads(ctc=self.ctc_log_probs, decoder=speaker, llm=speaker)


class VoxLMDecoder:
    """`voxkit.search.attention.Decoder` over frames: projects them, reads the prompt, says token after token.

    Args:
        model: whose frames these are.
        prompt: [B, P] before the audio; None: the default.
    """

    bos, eos = 0, END  # blank: it is given before the first token and not read
    alignment_heads: tuple[tuple[int, int], ...] = ()
    silence = None

    def __init__(self, model: VoxLM, prompt: Padded | None = None) -> None:
        self.model, self.prompt = model, prompt

    def prompted(self, request: Request, count: int) -> VoxLMDecoder:
        """The same, told something else, for so many utterances."""
        assert self.model.prompt is not None
        return self.model.speaker([self.model.prompt.before(request)] * count)

    def limit(self, lengths: Tensor) -> Tensor:
        """How many tokens utterances of so many frames may have: one for each, as CTC could say."""
        return lengths

    def init_state(self, memory: Tensor, lengths: Tensor) -> SpeechState:
        """Frames [B, T, D], lengths [B] → the state of B empty hypotheses."""
        projected = self.model.project(memory, lengths)
        return self.model.llm.begin(projected.embeddings, projected.lengths, self.prompt)

    def step(self, tokens: Tensor, state: SpeechState) -> tuple[Tensor, SpeechState]:
        """Last tokens [N] → log-probabilities of the next [N, V] and the state."""
        return self.model.llm.say(tokens, state)

    def score(self, memory: Tensor, memory_lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Log-probability of whole hypotheses, the end included: frames [B, T, D], tokens [B, n, U], token_lengths [B, n] → [B, n]."""
        projected = self.model.project(memory, memory_lengths)
        return self.model.llm.score(projected.embeddings, projected.lengths, tokens, token_lengths, self.prompt)

    def examine(self, memory: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Examined:
        """One pass over known transcripts [B, U]: probabilities, entropies, text states."""
        projected = self.model.project(memory, lengths)
        return self.model.llm.examine(projected.embeddings, projected.lengths, tokens, token_lengths, self.prompt)

    def attention_weights(self, tokens: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        """A language model has no cross-attention.

        Raises:
            ValueError: always; the message says what to use.
        """
        raise ValueError("--method attention follows cross-attention, and a language model has none; use --method head, or ctc")

    def align(self, text: Tensor, words: Tensor, states: Tensor, lengths: Tensor) -> Tensor | None:
        """Which word each frame belongs to, [B, W + 1, T], pause first; None of a model whose alignment head has learned nothing."""
        head = self.model.alignment
        return head(text, words, states, lengths) if bool(head.learned) else None


def word_spans(spans: Padded) -> tuple[Tensor, Tensor]:
    """Where the word of each token lies → the words.

    Args:
        spans: [B, U, 2] start and end in seconds of the word that a token belongs to, the same for all its tokens; NaN: not known.

    Returns:
        the word of each token [B, U], counted from 0, padding -1; start and end of each word [B, W, 2], NaN past an utterance's words.
    """
    values = spans.values
    valid = torch.arange(values.shape[1], device=values.device) < spans.lengths[:, None]
    new = torch.ones_like(valid)
    new[:, 1:] = (values[:, 1:] != values[:, :-1]).any(-1)  # NaN differs from itself: a word of its own
    words = (new.cumsum(1) - 1).masked_fill(~valid, -1)
    count = max(1, int(words.max()) + 1) if words.numel() else 1
    out = torch.full((len(values), count, 2), torch.nan, device=values.device)
    batch, place = (new & valid).nonzero(as_tuple=True)
    out[batch, words[batch, place]] = values[batch, place].float()
    return words, out


def build(config: VoxLMConfig, vocabulary: Vocabulary | TokenIds) -> VoxLM:
    """A VoxLM over the tokens of its language model.

    Raises:
        ConfigError: an encoder option that does not exist. ValueError: another kind of vocabulary.
    """
    if isinstance(vocabulary, LLMVocabulary):
        return VoxLM(config, vocabulary)
    if builds_shapes_only():
        return VoxLM(config)
    raise ValueError("tokenizer: VoxLM says its language model's own tokens; `voxkit tokenize --kind llm --llm FOLDER --cuts ...` chooses "
                     "them")


SYSTEM = System(VoxLMConfig, build, reader="speech_llm", graphs=("encoder",))
