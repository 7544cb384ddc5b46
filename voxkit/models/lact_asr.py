"""LaCT ASR: a recognizer whose fast weights go on learning from utterance to utterance of a session (Zhang et al. 2025, arXiv 2505.23884).

    audio ─ front end ─ LaCT encoder ─┬─ CTC head
              carried in, carried out └─ Transformer decoder

The inner loss of the fast weights knows nothing of letters: what they carry helps only where carrying was trained. A training batch is
therefore made of sessions, several utterances of one speaker under one condition in a row, and `hear` runs them turn by turn: the state
goes on inside the loss, with gradients over a few utterances. In use `encode(batch, carried)` takes the state and gives it back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.batch import Batch, turns
from voxkit.config import ConfigError
from voxkit.decoders.transformer import TransformerDecoder, TransformerDecoderConfig
from voxkit.encoders.build import build_encoder
from voxkit.encoders.front_end import FbankFrontEnd, FrontEndConfig, build_front_end
from voxkit.encoders.lact import Carried, LaCTEncoder
from voxkit.losses.hybrid import correct_tokens, ctc_loss, label_smoothed_cross_entropy
from voxkit.models.contract import Encoded, Losses
from voxkit.models.front_end_listener import FrontEndListener, HeardBatch, check_tokens
from voxkit.nn.chunks import silence_marks
from voxkit.search.heads import Heads
from voxkit.system import System, TokenIds

LaCTASREncoder, LaCTASRDecoder = LaCTEncoder, TransformerDecoder


@dataclass
class CarryConfig:
    """How state goes from utterance to utterance in training.

    Attributes:
        enabled: False = every utterance begins with the initial weights, although the batch says which belong together.
        gradient: utterances that gradients flow back through.
        reset: share of utterances that begin with the initial weights anyway, so that these stay good.
    """

    enabled: bool = True
    gradient: int = 3
    reset: float = 0.15

    def problems(self) -> list[str]:
        found = [] if 0 <= self.reset <= 1 else [f"reset: {self.reset} is not in [0, 1]"]
        return found + ([] if self.gradient >= 1 else [f"gradient: {self.gradient} is below 1"])


@dataclass
class LaCTLossConfig:
    """Attributes: ctc, attention: weights, attention 0 trains CTC alone; label_smoothing: in the cross-entropy."""

    ctc: float = 0.5
    attention: float = 0.5
    label_smoothing: float = 0.1

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is negative" for name in ("ctc", "attention") if getattr(self, name) < 0]
        if self.ctc <= 0:
            found.append("ctc: searches begin with the CTC head; give it a weight above 0")
        return found + ([] if 0 <= self.label_smoothing < 1 else [f"label_smoothing: {self.label_smoothing} is not in [0, 1)"])


@dataclass
class LaCTASRConfig:
    """Attributes:
    vocab_size: pieces of the tokenizer; 0 = as the tokenizer says.
    front_end: where the vectors come from.
    encoder: `kind` lact and any field of LaCTConfig; another kind is a baseline that carries nothing.
    carry: how training carries state.
    decoder: sizes of the attention decoder; loss: weights.
    dropout: on the states before the CTC head, in training.
    """

    vocab_size: int = 0
    front_end: FrontEndConfig = field(default_factory=lambda: FrontEndConfig(kind="fbank"))
    encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "lact"})
    carry: CarryConfig = field(default_factory=CarryConfig)
    decoder: TransformerDecoderConfig = field(default_factory=TransformerDecoderConfig)
    loss: LaCTLossConfig = field(default_factory=LaCTLossConfig)
    dropout: float = 0.1


class LaCTASR(FrontEndListener):
    """The recognizer that adapts.

    Args:
        config: with vocab_size set.

    Raises:
        ConfigError: an encoder option that does not exist.
    """

    def __init__(self, config: LaCTASRConfig) -> None:
        front_end = build_front_end(config.front_end)
        super().__init__(front_end, build_encoder(config.encoder, front_end.output_dim))
        self.config, dim = config, self.encoder.output_dim
        self.dropout, self.ctc = nn.Dropout(config.dropout), nn.Linear(dim, config.vocab_size)
        self.decoder = TransformerDecoder(config.decoder, config.vocab_size, dim) if config.loss.attention > 0 else None

    @property
    def heads(self) -> Heads:
        """CTC, and the attention decoder where there is one."""
        return Heads(ctc=self.ctc_log_probs, decoder=self.decoder)

    @property
    def carries(self) -> bool:
        """Whether there is a state to carry."""
        return isinstance(self.encoder, LaCTEncoder) and self.encoder.carries > 0

    def ctc_log_probs(self, states: Tensor) -> Tensor:
        """states [B, T', D] → [B, T', V], float32."""
        return self.ctc(self.dropout(states)).float().log_softmax(-1)

    def encode(self, batch: Batch, carried: Carried | None = None) -> Encoded:
        """A batch → states [B, T', D], and what to give for the next utterance of each row's session.

        Args:
            carried: what the call before gave, for the same rows: it is drawn back a little towards the initial weights first; None: these.
        """
        x, lengths = self.front_end(batch)
        if not self.carries:
            states, lengths = self.encoder(x, lengths)
            return Encoded(states, lengths, self._seconds(batch, lengths))
        begin = self.encoder.initial(len(x)) if carried is None else self.encoder.rest(carried)
        states, after = self.encoder.forward_carried(x, lengths, begin, marks=self._marks(batch, x))
        return Encoded(states, lengths, self._seconds(batch, lengths), after)

    def hear(self, batch: Batch, views: int = 1) -> HeardBatch:
        """Front end and encoder on a batch, the utterances of each of its sessions one after the other."""
        if views != 1:
            raise ValueError("a session is heard once: LaCT ASR has no loss over several views")
        if batch.sessions is None or not self.carries or not self.config.carry.enabled:
            encoded = self.encode(batch)
            return HeardBatch(encoded.states, encoded.lengths, [], encoded.lengths)
        x, lengths = self.front_end(batch)
        states, marks = [x.new_zeros(0)] * len(x), self._marks(batch, x)
        before: list[int] = []
        carried: Carried = ()
        for turn, rows in enumerate(turns(batch.sessions)):
            index = torch.tensor(rows, device=x.device)
            longest = int(lengths[index].max())
            carried = self._carry(carried, before, [batch.sessions[row] for row in rows], batch.sessions, turn)
            out, carried = self.encoder.forward_carried(x[index, :longest], lengths[index], carried,
                                                        marks=None if marks is None else marks[index, :longest])
            before = rows
            for row, one in zip(rows, out):
                states[row] = one
        most = int(lengths.max())
        padded = torch.stack([F.pad(one, (0, 0, 0, most - len(one))) for one in states])
        return HeardBatch(padded, lengths, [], lengths)

    def _carry(self, carried: Carried, before: list[int], now: list[str], sessions: list[str], turn: int) -> Carried:
        """What the utterances of a turn begin with: what those of the turn before left, for the sessions that go on."""
        fresh, config = self.encoder.initial(len(now)), self.config.carry
        if turn == 0:
            return fresh
        place = {sessions[row]: at for at, row in enumerate(before)}
        rows = torch.tensor([place[session] for session in now], device=fresh[0].device)
        carried = self.encoder.rest(take_carried(carried, rows, len(before)))
        if turn % config.gradient == 0:
            carried = tuple(x.detach() for x in carried)
        if not self.training or config.reset == 0:
            return carried
        anew = torch.rand(len(now), device=rows.device) < config.reset
        return tuple(torch.where(anew.repeat_interleave(len(a) // len(now))[:, None, None], a, b) for a, b in zip(fresh, carried))

    def _marks(self, batch: Batch, x: Tensor) -> Tensor | None:
        """Where chunks may end: in silence, if the encoder's chunks end at marks."""
        if not self.carries or self.encoder.config.fast.borders != "marked":
            return None
        if batch.audio is None:
            raise ValueError("model.encoder.fast.borders=marked looks for silence in the audio; set data.input=audio, or borders=fixed")
        return silence_marks(batch.audio.values, batch.audio.lengths, x.shape[1])

    def loss_of(self, batch: Batch, heard: HeardBatch) -> Losses:
        """CTC and cross-entropy per token, in nats; "accuracy" is of the next token, teacher-forced."""
        assert batch.tokens is not None, "a training batch has tokens"
        tokens, token_lengths, weights = batch.tokens.values, batch.tokens.lengths, self.config.loss
        num_tokens = token_lengths.sum().clamp(min=1)
        ctc = ctc_loss(self.ctc_log_probs(heard.states), heard.lengths, tokens, token_lengths).sum() / num_tokens
        total, parts, metrics = weights.ctc * ctc, {"ctc": ctc.detach()}, {}
        if self.decoder is not None:
            inputs, targets, target_lengths = self.decoder.teacher_forcing(tokens, token_lengths)
            logits = self.decoder(inputs, heard.states, heard.lengths)
            num_targets = target_lengths.sum()
            if batch.whole is not None:  # a mean over tokens and ends, beside means over tokens: as the two are in the whole
                num_targets = num_tokens * (1 + batch.whole.utterances / max(batch.whole.tokens, 1))
            attention = label_smoothed_cross_entropy(logits, targets, weights.label_smoothing).sum() / num_targets
            total, parts["attention"] = total + weights.attention * attention, attention.detach()
            metrics["accuracy"] = correct_tokens(logits, targets)
        return Losses(total, num_tokens, parts, metrics)

    def not_streaming(self) -> str | None:
        """Why this model cannot take its audio as it comes; None where it can."""
        if not isinstance(self.front_end, FbankFrontEnd):
            return f"model.front_end.kind is {self.config.front_end.kind}, and only fbank streams"
        if not isinstance(self.encoder, LaCTEncoder):
            return f"model.encoder.kind is {self.config.encoder.get('kind')}, which looks at the whole utterance; lact streams"
        return self.encoder.not_streaming()

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None,
                   carried: Carried | None = None) -> tuple[Tensor, ...]:
        """State before the first sample: the front end's tensors, vectors that wait for a whole step, the encoder's.

        Raises:
            ValueError: a front end or an encoder that looks at the whole utterance.
        """
        if reason := self.not_streaming():
            raise ValueError(reason)
        waiting = torch.zeros(batch_size, 0, self.front_end.output_dim, device=device)
        begin = None if carried is None else self.encoder.rest(carried)
        return *self.front_end.init_state(batch_size, device), waiting, *self.encoder.init_state(batch_size, device, begin)

    def stream(self, audio: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next samples [B, S] at 16 kHz, any number of them → the states that are due with them [B, T', D], and the state after them.

        Args:
            final: the audio ends here. Altogether the states are those of `encode`.
        """
        count, step = self.front_end.state_size, self.encoder.step
        x, front = self.front_end.stream(audio, state[:count], least=max(1, step - state[count].shape[1]), final=final)
        x = torch.cat((state[count], x), 1)
        size = x.shape[1] if final else x.shape[1] // step * step
        out, encoder = self.encoder.stream(x[:, :size], state[count + 1:], final=final)
        return out, (*front, x[:, size:], *encoder)

    def carried_of(self, state: tuple[Tensor, ...]) -> Carried:
        """What a stream has learned, out of its state."""
        return self.encoder.carried_of(state[self.front_end.state_size + 1:])


class BaselineASRTransformer(LaCTASR):
    """The same recognizer with full attention in place of window and fast weights, its feed-forward widened to as many parameters.

    Args:
        config: of the LaCT recognizer it is to stand beside.

    Attributes:
        counterpart: parameters of that recognizer's encoder.
    """

    def __init__(self, config: LaCTASRConfig) -> None:
        with torch.device("meta"):
            self_size = sum(p.numel() for p in LaCTASR(config).encoder.parameters())
        super().__init__(replace(config, encoder=baseline_encoder(config, self_size)))
        self.counterpart = self_size


def baseline_encoder(config: LaCTASRConfig, parameters: int) -> dict[str, Any]:
    """Options of a full-attention encoder of the width and depth of a LaCT encoder with as many parameters, within 1 %."""
    wanted = {name: config.encoder[name] for name in ("dim", "heads", "layers", "dropout") if name in config.encoder}
    options = {"kind": "transformer", **wanted, "positions": "relative"}

    def size(ffn: int) -> int:
        with torch.device("meta"):
            width = build_front_end(config.front_end).output_dim
            return sum(p.numel() for p in build_encoder({**options, "ffn": ffn}, width).parameters())

    narrow, one = size(1), size(2) - size(1)
    ffn = max(1, round(1 + (parameters - narrow) / one))
    if abs(size(ffn) / parameters - 1) > 0.01:
        raise ConfigError(f"model.encoder: no width of the feed-forward gives a baseline of {parameters} parameters within 1 %")
    return {**options, "ffn": ffn}


def take_carried(carried: Carried, rows: Tensor, batch: int) -> Carried:
    """The carried tensors [batch · heads, ...] of some rows of a batch."""
    return tuple(x.unflatten(0, (batch, -1))[rows].flatten(0, 1) for x in carried)


def build(config: LaCTASRConfig, tokens: TokenIds) -> LaCTASR:
    """A recognizer over a vocabulary with CTC's blank.

    Raises:
        ConfigError: an encoder option that does not exist. ValueError: another kind of vocabulary.
    """
    check_tokens(tokens)
    return LaCTASR(config)


SYSTEM = System(LaCTASRConfig, build, reader="sessions")
