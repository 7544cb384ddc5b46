"""VoxFormer: front end → Zipformer → CTC head, Transformer decoder, transducer: those whose losses have a weight.

    audio ─ frozen encoder ─ layer-weighted sum ─ adapter ─┐
    audio ─ fbank ─ convolutional subsampling ─────────────┴─ Zipformer ─┬─ CTC head          (CTC heads half-way up, if wanted)
                                                                         ├─ Transformer decoder
                                                                         └─ transducer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Sequence

import torch
from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.config import structure
from voxkit.decoders.intermediate_ctc import IntermediateCtcConfig, build_intermediate_ctc, share_problems
from voxkit.decoders.transducer import Transducer, TransducerConfig
from voxkit.decoders.transformer import TransformerDecoder, TransformerDecoderConfig
from voxkit.encoders.front_end import FbankFrontEnd, FrontEndConfig, PretrainedFrontEnd, build_front_end
from voxkit.encoders.zipformer import Zipformer, ZipformerConfig, from_preset
from voxkit.losses.consistency import consistency_loss
from voxkit.losses.hybrid import HybridLossConfig, correct_tokens, ctc_loss, label_smoothed_cross_entropy
from voxkit.losses.k2_losses import k2_ctc_loss
from voxkit.losses.mwer import mwer_loss, word_errors
from voxkit.losses.transducer import TransducerLossConfig, transducer_loss
from voxkit.models.contract import Losses
from voxkit.models.front_end_listener import FrontEndListener, HeardBatch, check_tokens
from voxkit.optional import require
from voxkit.search.heads import Heads
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.system import System, TokenIds
from voxkit.text.vocabulary import Vocabulary

_TO_STREAM = ("train with model.front_end.kind=fbank model.encoder.causal=true model.encoder.chunk_size=[16,32,-1] "
              "model.encoder.left_context=[64,128,-1] (docs/training.md, Causal models)")


@dataclass
class VoxFormerConfig:
    """Attributes:
    vocab_size: pieces of the tokenizer, blank (0), bos (1) and eos (2) among them; 0 = as the tokenizer says.
    front_end: where the vectors come from.
    encoder: Zipformer: `preset` (plan, S, M, L, mini, toy) and any field of ZipformerConfig to change.
    intermediate_ctc: where further CTC heads stand, below the end of the encoder; their loss has the share loss.intermediate.
    decoder: the attention decoder; left out where loss.attention and loss.start_attention are 0.
    loss: weights of the losses. There is no CTC head where loss.ctc and loss.start_ctc are 0.
    transducer: sizes of its decoder and joiner; left out where loss.transducer is 0. transducer_loss: how its loss is computed.
    dropout: on the states before the CTC head, in training.
    ctc_blank_bias: start value of the head's bias for blank; below 0 makes blanks rarer at the start, a remedy where
        training sits on a plateau of blanks.
    """

    vocab_size: int = 0
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    encoder: dict[str, Any] = field(default_factory=lambda: {"preset": "plan"})
    intermediate_ctc: IntermediateCtcConfig = field(default_factory=IntermediateCtcConfig)
    decoder: TransformerDecoderConfig = field(default_factory=TransformerDecoderConfig)
    loss: HybridLossConfig = field(default_factory=HybridLossConfig)
    transducer: TransducerConfig = field(default_factory=TransducerConfig)
    transducer_loss: TransducerLossConfig = field(default_factory=TransducerLossConfig)
    dropout: float = 0.1
    ctc_blank_bias: float = 0.0

    def problems(self) -> list[str]:
        return share_problems(self.intermediate_ctc, self.loss.intermediate)

    def zipformer(self, input_dim: int) -> ZipformerConfig:
        """The encoder's configuration for a front end of this width."""
        changes = {k: v for k, v in self.encoder.items() if k != "preset"}
        preset = from_preset(self.encoder.get("preset", "plan"), input_dim=input_dim)
        return structure(ZipformerConfig, {**vars(preset), **changes}, "model.encoder")


class VoxFormer(FrontEndListener):
    """The hybrid CTC/attention recognizer.

    Args:
        config: with vocab_size set.

    Raises:
        ConfigError: an encoder option that does not exist; ValueError: no vocabulary.
    """

    encoder: Zipformer

    def __init__(self, config: VoxFormerConfig) -> None:
        front_end = build_front_end(config.front_end)
        super().__init__(front_end, Zipformer(config.zipformer(front_end.output_dim)))
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.ctc = None
        if config.loss.uses_ctc:
            self.ctc = nn.Linear(self.encoder.output_dim, config.vocab_size)
            with torch.no_grad():
                self.ctc.bias[0] += config.ctc_blank_bias
        self.intermediate = build_intermediate_ctc(config.intermediate_ctc, self.encoder.place_dims, config.vocab_size)
        uses_decoder = config.loss.attention > 0 or config.loss.start_attention > 0
        self.decoder = TransformerDecoder(config.decoder, config.vocab_size, self.encoder.output_dim) if uses_decoder else None
        self.transducer = None
        if config.loss.transducer > 0:
            self.transducer = Transducer(config.transducer, config.vocab_size, self.encoder.output_dim)
        self.word_starts: Sequence[bool] | None = None  # for loss.mwer: which tokens begin a word; None counts errors in tokens

    def begin_training(self, vocabulary: Vocabulary) -> None:
        """What training needs and using the trained model does not.

        Raises:
            MissingPackage: a loss of k2's is asked for, and k2 cannot be imported.
        """
        self.word_starts = vocabulary.word_starts
        if self.config.loss.ctc_by == "k2":
            require("k2", why="loss.ctc_by=k2")
        if self.transducer is not None and self.config.transducer_loss.by == "k2":
            require("k2", why="model.transducer_loss.by=k2")

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first sample: the front end's tensors, vectors that wait for a whole chunk [B, T, D], the encoder's.

        Raises:
            ValueError: a front end or an encoder that looks at the whole utterance, or chunks without bound.
        """
        if reason := self.not_streaming():
            raise ValueError(reason)
        waiting = torch.zeros(batch_size, 0, self.front_end.output_dim, device=device)
        return *self.front_end.init_state(batch_size, device), waiting, *self.encoder.init_state(batch_size, device)

    def stream(self, audio: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next samples [B, S] at 16 kHz, any number of them → states of the chunks that are whole with them [B, T', D] (T' may be 0),
        and the state after them.

        Args:
            final: the audio ends here: the last chunk, cut short, comes out too. Altogether the states are those that `encode` gives for
                the same chunk and left context (`encoder.set_chunk`), what self-conditioned CTC heads read included.
        """
        count, chunk = self.front_end.state_size, self.encoder.chunk
        x, front = self.front_end.stream(audio, state[:count], least=chunk - state[count].shape[1], final=final)
        x, encoder = torch.cat((state[count], x), dim=1), state[count + 1:]
        between, outputs = partial(self._between, []), []
        while x.shape[1] >= (1 if final else chunk):
            y, encoder = self.encoder.stream(between(0, x[:, :chunk]), encoder, between)
            outputs.append(y)
            x = x[:, chunk:]
        states = torch.cat(outputs, dim=1) if outputs else x.new_zeros(len(x), 0, self.encoder.output_dim)
        return states, (*front, x, *encoder)

    def not_streaming(self) -> str | None:
        """Why this model cannot take its audio as it comes, and which one can; None where it can."""
        if isinstance(self.front_end, PretrainedFrontEnd) and not self.front_end.state_size:
            return ("a full-context encoder does not stream: this model reads its audio through the pretrained "
                    f"{self.config.front_end.pretrained.name}, which looks at the whole utterance; {_TO_STREAM}, or open the layers of a "
                    "WavLM, HuBERT or wav2vec 2.0 with model.front_end.pretrained.chunk=16")
        if not isinstance(self.front_end, (FbankFrontEnd, PretrainedFrontEnd)):
            return f"model.front_end.kind is {self.config.front_end.kind}, and only fbank streams; {_TO_STREAM}"
        if not self.encoder.config.causal:
            return f"the model is not causal: its encoder looks at the whole utterance; {_TO_STREAM}"
        return None

    @property
    def heads(self) -> Heads:
        """CTC, attention decoder and transducer, those that there are."""
        return Heads(ctc=self.ctc_log_probs if self.ctc is not None else None, decoder=self.decoder, transducer=self.transducer)

    def ctc_log_probs(self, states: Tensor) -> Tensor:
        """states [B, T', D] → [B, T', V], float32."""
        assert self.ctc is not None, "`heads` says whether there is a CTC head"
        return self.ctc(self.dropout(states)).float().log_softmax(-1)

    @property
    def views(self) -> int:
        """Two where their consistency counts (CR-CTC), in training."""
        return 2 if self.config.loss.consistency > 0 and self.training else 1

    def loss_of(self, batch: Batch, heard: HeardBatch) -> Losses:
        """Weighted losses of all heads per token, in nats; "accuracy" is of the next token, teacher-forced."""
        states, lengths, read, read_lengths = heard
        views = len(lengths) // batch.size
        transcripts = batch.tokens.repeat(views)
        tokens, token_lengths = transcripts.values, transcripts.lengths
        num_tokens = token_lengths.sum().clamp(min=1)
        ctc_weight, attention_weight = self.config.loss.weights(self.step)
        total, parts, metrics, log_probs = states.new_zeros(()), {}, {}, None
        if self.ctc is not None:
            log_probs = self.ctc_log_probs(states)
            by = k2_ctc_loss if self.config.loss.ctc_by == "k2" else ctc_loss
            ctc = by(log_probs, lengths, tokens, token_lengths).sum() / num_tokens
            total, parts["ctc"] = ctc_weight * ctc, ctc.detach()
            if read:
                share = self.config.loss.intermediate
                intermediate = sum(by(r, read_lengths, tokens, token_lengths).sum() for r in read) / (len(read) * num_tokens)
                total = ctc_weight * ((1 - share) * ctc + share * intermediate)
                parts["intermediate"] = intermediate.detach()
        if views == 2:
            consistency = consistency_loss(log_probs, lengths).sum() / num_tokens
            total = total + self.config.loss.consistency * consistency
            parts["consistency"] = consistency.detach()
        if self.decoder is not None and attention_weight > 0:
            inputs, targets, target_lengths = self.decoder.teacher_forcing(tokens, token_lengths)
            logits = self.decoder(inputs, states, lengths)
            smoothing = self.config.loss.label_smoothing
            num_targets = target_lengths.sum()
            if batch.whole is not None:  # a mean over tokens and ends, beside means over tokens: as the two are in the whole
                num_targets = num_tokens * (1 + batch.whole.utterances / max(batch.whole.tokens, 1))
            attention = label_smoothed_cross_entropy(logits, targets, smoothing).sum() / num_targets
            total = total + attention_weight * attention
            parts["attention"] = attention.detach()
            metrics["accuracy"] = correct_tokens(logits, targets)
        if self.transducer is not None:
            found = transducer_loss(self.transducer, states, lengths, tokens, token_lengths, self.config.transducer_loss,
                                    self.schedule_offset + self.step)
            total = total + self.config.loss.transducer * found.total / num_tokens
            parts |= {"transducer": found.joined / num_tokens, "transducer_simple": found.simple / num_tokens}
        if self.config.loss.mwer > 0 and self.training:
            risk = self._risk(states, lengths, log_probs, tokens, token_lengths) / num_tokens
            total = total + self.config.loss.mwer * risk
            parts["mwer"] = risk.detach()
        return Losses(total, num_tokens, parts, metrics)

    def _risk(self, states: Tensor, lengths: Tensor, log_probs: Tensor, references: Tensor, reference_lengths: Tensor) -> Tensor:
        """Expected word errors over n-best lists of the CTC head, scored by CTC and decoder; summed over the batch."""
        lists = nbest_tokens(log_probs.detach(), lengths, self.config.loss.mwer_nbest)
        count, longest = max(map(len, lists)), max(1, max(len(h) for row in lists for h in row))
        tokens = torch.zeros(len(lists), count, longest, dtype=torch.long)
        sizes, errors = torch.zeros(len(lists), count, dtype=torch.long), torch.zeros(len(lists), count)
        valid = torch.zeros(len(lists), count, dtype=torch.bool)
        for b, row in enumerate(lists):
            reference = references[b, : reference_lengths[b]].tolist()
            for n, hypothesis in enumerate(row):
                tokens[b, n, : len(hypothesis)] = torch.tensor(hypothesis, dtype=torch.long)
                sizes[b, n], valid[b, n] = len(hypothesis), True
                errors[b, n] = word_errors(reference, hypothesis, self.word_starts)
        tokens, sizes, errors, valid = (x.to(states.device) for x in (tokens, sizes, errors, valid))
        ctc_weight, attention_weight = self.config.loss.weights(self.step)
        repeated = log_probs.repeat_interleave(count, 0)
        scores = -ctc_loss(repeated, lengths.repeat_interleave(count), tokens.flatten(0, 1), sizes.flatten()).view(valid.shape)
        if self.decoder is not None and attention_weight > 0:
            decoded = self.decoder.score(states, lengths, tokens, sizes)
            scores = (ctc_weight * scores + attention_weight * decoded) / (ctc_weight + attention_weight)
        return mwer_loss(scores, errors, valid).sum()


def nbest_tokens(log_probs: Tensor, lengths: Tensor, count: int) -> list[list[list[int]]]:
    """n-best token lists of CTC prefix beam search, for minimum word error training: log_probs [B, T, V], lengths [B]."""
    return [[h.tokens for h in row] for row in ctc_prefix_beam(log_probs, lengths, max(count, 4), nbest=count, times=False)]


def build(config: VoxFormerConfig, tokens: TokenIds) -> VoxFormer:
    """A VoxFormer over a vocabulary with CTC's blank.

    Raises:
        ConfigError: an encoder option that does not exist. ValueError: another kind of vocabulary.
    """
    check_tokens(tokens)
    return VoxFormer(config)


SYSTEM = System(VoxFormerConfig, build, graphs=("encoder", "decoder", "transducer"))
