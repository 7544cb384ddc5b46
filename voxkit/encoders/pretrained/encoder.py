"""A pretrained encoder as a module: all its states out, a frozen part below, an open part above."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxkit.audio.specaugment import SpecAugment
from voxkit.checkpoint.external import External, externals
from voxkit.encoders.pretrained.backbone import zero_padding
from voxkit.encoders.pretrained.chunked import ChunkedWav2Vec, State
from voxkit.encoders.pretrained.config import PretrainedConfig
from voxkit.encoders.pretrained.loading import load_backbone
from voxkit.encoders.pretrained.windows import in_windows
from voxkit.precision import autocast, dtype_name, resolve


class PretrainedEncoder(External):
    """WavLM, HuBERT, wav2vec 2.0 / MMS or Whisper's encoder, by Hugging Face name or folder.

    Everything below the lowest open layer is frozen: always in eval mode, without gradient, left out of checkpoints, and its
    states can be cached (`encode`, then `forward_from_states`). Layers that `unfreeze` names learn. A frozen layer above an
    open one lets the gradient through.

    B batch · S samples at 16 kHz · T frames at `frame_rate` · L states · C cached states · D width of a state

    Attributes:
        num_layers: Transformer layers, N.
        num_states: states that `forward` gives, N + 1 unless the configuration chooses some.
        num_frozen: layers below the lowest open one; equal to num_layers where nothing is open.
        state_ids: the states `forward` gives, counted from 0 (what enters layer 1).
        cached_ids: the states `encode` gives and `forward_from_states` takes.
        dim, frame_rate: width of a state, states per second.
    """

    def __init__(self, config: PretrainedConfig):
        """Reads the weights.

        Raises:
            ValueError: with every problem of the configuration, or what is wrong with the checkpoint.
        """
        problems = config.problems()
        if problems:
            raise ValueError("; ".join(problems))
        chunks = (config.chunk, config.left_context) if config.chunk else None
        backbone, source = load_backbone(config.name, config.normalize, config.revision, chunks)
        super().__init__(source)
        self.config, self.backbone = config, backbone
        self.num_layers = len(self.backbone.layers)
        problems = config.problems_with(self.num_layers)
        if config.spec_augment.prob > 0:
            if self.backbone.family != "whisper":
                problems.append(f"spec_augment: {config.name} ({self.backbone.family}) has no spectrum to mask; use mask_time_prob")
            self.backbone.spec_augment = SpecAugment(config.spec_augment)
        if problems:
            raise ValueError("; ".join(problems))
        self.open_layers = sorted(layer - 1 for layer in config.unfreeze)
        self.num_frozen = self.open_layers[0] if self.open_layers else self.num_layers
        self.state_ids = sorted(config.states) or list(range(self.num_layers + 1))
        self.cached_ids = [state for state in self.state_ids if state <= self.num_frozen]
        if self.num_frozen < self.num_layers and self.num_frozen not in self.cached_ids:
            self.cached_ids.append(self.num_frozen)
        self.num_states, self.dim, self.frame_rate = len(self.state_ids), self.backbone.dim, self.backbone.frame_rate
        self._open()
        self.train()

    def forward(self, audio: Tensor, lengths: Tensor, ids: list[str] | None = None, views: int = 1) -> tuple[Tensor, Tensor]:
        """All states.

        Args:
            audio: [B, S] float, 16 kHz, in [-1, 1].
            lengths: [B] samples.
            ids: names of the utterances, for messages.
            views: copies of the batch, each with masked spans of its own (mask_time_shared: all with the same); the frozen part, a
                masked spectrum too, is one for all.

        Returns:
            states [views·B, L, T, D], zero past each utterance's end, and lengths [views·B] in frames.

        Raises:
            ValueError: an utterance is too short for one frame, or, in training, too long for the encoder (Whisper: 30 s); in eval
                mode a longer one goes through in overlapping windows.
        """
        if self._too_long(lengths):
            return self.forward_from_states(*self.encode(audio, lengths, ids), views)
        states, lengths = self._lower(audio, lengths, ids)
        return self._join(states, lengths, views)

    def encode(self, audio: Tensor, lengths: Tensor, ids: list[str] | None = None) -> tuple[Tensor, Tensor]:
        """The frozen part alone, for the cache: states [B, C, T, D] without gradient, lengths [B] in frames. In eval mode audio that is
        too long for the encoder goes through it in overlapping windows."""
        if self._too_long(lengths):
            return in_windows(self._encode_short, audio, lengths, self.backbone.max_samples, 16000 // int(self.frame_rate), 16000)
        return self._encode_short(audio, lengths, ids)

    def _too_long(self, lengths: Tensor) -> bool:
        most = self.backbone.max_samples
        return bool(most and not self.training and not torch.compiler.is_exporting() and int(lengths.max()) > most)

    def _encode_short(self, audio: Tensor, lengths: Tensor, ids: list[str] | None = None) -> tuple[Tensor, Tensor]:
        states, lengths = self._lower(audio, lengths, ids)
        return torch.stack([states[i] for i in self.cached_ids], dim=1), lengths

    def forward_from_states(self, cached: Tensor, lengths: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """The rest of `forward` after `encode`: cached [B, C, T, D] (any float type) → states [views·B, L, T, D], lengths [views·B]."""
        if cached.dim() != 4 or cached.shape[1] != len(self.cached_ids):
            raise ValueError(f"expected the states {self.cached_ids} as [B, {len(self.cached_ids)}, T, D]; got "
                             f"{tuple(cached.shape)}. Was the cache built with other layers open?")
        if self.num_frozen == self.num_layers and views == 1:
            return cached, lengths
        states = dict(zip(self.cached_ids, cached.unbind(1)))
        return self._join(states, lengths, views)

    @property
    def chunked(self) -> ChunkedWav2Vec | None:
        """The encoder where it hears chunk by chunk, with its `init_state` and `state_size`; None where it takes whole utterances."""
        return self.backbone if isinstance(self.backbone, ChunkedWav2Vec) else None

    def stream(self, audio: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        """The next samples [B, S], any number of them → all states [B, L, n, D] of the chunks that are whole with them, and the state after
        them (`ChunkedWav2Vec.init_state`). Altogether they are those of `forward`; for use in eval mode."""
        assert self.chunked is not None, "only an encoder with chunks streams"
        with autocast(self.compute_dtype(), audio.device):
            states, state = self.chunked.stream(audio, state, final=final)
        return torch.stack([states[i] for i in self.state_ids], dim=1), state

    @torch.no_grad()
    def _lower(self, audio: Tensor, lengths: Tensor, ids: list[str] | None) -> tuple[dict[int, Tensor], Tensor]:
        """States 0 to num_frozen that are wanted, and frames."""
        states: dict[int, Tensor] = {}
        with autocast(self.compute_dtype(), audio.device):
            x, lengths = self.backbone.embed(audio, lengths, ids)
            context = self.backbone.context(lengths, x.shape[1])
            for index in range(self.num_frozen + 1):
                if index in self.cached_ids:
                    top = self.backbone.final(x) if index == self.num_layers else x
                    states[index] = zero_padding(top, lengths)
                if index < self.num_frozen:
                    x = self.backbone.layer(index, x, context)
        return states, lengths

    def _upper(self, x: Tensor, lengths: Tensor) -> dict[int, Tensor]:
        """State num_frozen [B, T, D] → the states above it."""
        states: dict[int, Tensor] = {}
        context = self.backbone.context(lengths, x.shape[1])
        for index in range(self.num_frozen, self.num_layers):
            if not self._dropped(index):
                if self.config.gradient_checkpointing and self.training and torch.is_grad_enabled():
                    x = checkpoint(self.backbone.layer, index, x, context, use_reentrant=False)
                else:
                    x = self.backbone.layer(index, x, context)
            if index + 1 in self.state_ids:
                top = self.backbone.final(x) if index + 1 == self.num_layers else x
                states[index + 1] = zero_padding(top, lengths)
        return states

    def _join(self, states: dict[int, Tensor], lengths: Tensor, views: int) -> tuple[Tensor, Tensor]:
        if views > 1:
            states, lengths = {i: state.repeat(views, 1, 1) for i, state in states.items()}, lengths.repeat(views)
        if self.masks_spans:
            drawn = len(lengths) // views if self.config.mask_time_shared else len(lengths)
            masked = random_spans(drawn, states[self.num_frozen].shape[1], self.config.mask_time_prob, self.config.mask_time_length)
            masked = masked.repeat(len(lengths) // drawn, 1)
            states = {i: state.masked_fill(masked.to(state.device)[..., None], 0.0) for i, state in states.items()}
        if self.num_frozen < self.num_layers:
            x = states[self.num_frozen]
            states |= self._upper(x.to(next(self.backbone.layers[self.num_frozen].parameters()).dtype), lengths)
        chosen = [states[i] for i in self.state_ids]
        if len({state.dtype for state in chosen}) > 1:  # float16 from the cache beside bfloat16 from autocast: no stack takes both
            chosen = [state.float() for state in chosen]
        return torch.stack(chosen, dim=1), lengths

    @property
    def masks_spans(self) -> bool:
        """Whether the next call will mask spans of what enters the open layers."""
        return self.training and bool(self.open_layers) and self.config.mask_time_prob > 0

    @property
    def tells_views_apart(self) -> bool:
        """Whether each view of the next call has spans of its own; where not, one run does for all."""
        return self.masks_spans and not self.config.mask_time_shared

    def compute_dtype(self) -> torch.dtype:
        """What the frozen part computes in on the device where it is."""
        return resolve(self.config.dtype, next(self.parameters()).device, "model.front_end.pretrained.dtype")

    def _dropped(self, index: int) -> bool:
        if not self.training or self.config.layerdrop == 0 or index not in self.open_layers:
            return False
        return bool(torch.rand(()) < self.config.layerdrop)

    def _open(self) -> None:
        self.requires_grad_(False)
        for index in self.open_layers:
            self.backbone.layers[index].requires_grad_(True)
            self.backbone.set_dropout(index, self.config.dropout, self.config.attention_dropout, self.config.activation_dropout)
        if self.num_layers - 1 in self.open_layers and self.backbone.last_norm is not None:
            self.backbone.last_norm.requires_grad_(True)

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Switches the open layers and the masking of the spectrum only; what is frozen stays in eval mode."""
        super().train(False)
        self.training = mode
        for index in self.open_layers:
            self.backbone.layers[index].train(mode)
        if self.backbone.spec_augment is not None:
            self.backbone.spec_augment.train(mode)
        return self

    def enable_activation_checkpointing(self) -> None:
        """Recompute the open layers in the backward pass: less memory, a third more time."""
        self.config.gradient_checkpointing = True

    def settings(self) -> dict[str, Any]:
        """The family and its preprocessing."""
        return {"family": self.backbone.family, **self.backbone.options()}

    def fingerprints(self, dtype: torch.dtype | None = None) -> list[str]:
        """One hash per cached state. State i's covers the embedding and the layers up to i only, so that a cache made with
        everything frozen serves later stages that open top layers.

        Args:
            dtype: as if the frozen part computed in this one; None = as it does.
        """
        dtype = dtype or self.compute_dtype()
        options = {"family": self.backbone.family, "dtype": dtype_name(dtype), "version": 1, **self.backbone.options()}
        chain = _digest(json.dumps(options, sort_keys=True, default=list).encode(), *_weights(self.backbone.embed_modules()))
        found = []
        for index in range(self.num_frozen + 1):
            if index in self.cached_ids:
                last = self.backbone.last_norm if index == self.num_layers else None
                found.append(chain if last is None else _digest(chain.encode(), *_weights([last])))
            if index < self.num_frozen:
                chain = _digest(chain.encode(), *_weights([self.backbone.layers[index]]))
        return found


def pretrained_encoder(model: nn.Module) -> PretrainedEncoder | None:
    """The pretrained encoder that a model listens through; None where it has none."""
    return next((module for module in externals(model).values() if isinstance(module, PretrainedEncoder)), None)


def random_spans(size: int, frames: int, probability: float, span: int) -> Tensor:
    """[size, frames] on the CPU, True = masked: about `probability` of the frames, in spans of `span`."""
    starts = torch.rand(size, frames) < probability / span
    covered = torch.nn.functional.max_pool1d(torch.nn.functional.pad(starts.float(), (span - 1, 0))[:, None], span, 1)[:, 0]
    return covered.bool()


def _weights(modules: list[nn.Module]) -> list[Any]:
    found: list[Any] = []
    for module in modules:
        for name, value in module.state_dict().items():
            found.append(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            found.append(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]
