"""Learned weighted sum over the states of a pretrained encoder (ELMo, arXiv 1802.05365; SUPERB, arXiv 2105.01051)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerMix(nn.Module):
    """sum_l softmax(w)_l * state_l, starting at equal weights.

    ELMo's global scale is left out: the adapter's LayerNorm follows, so that its gradient is noise; ScaledAdam walked it through zero
    (where the sum, and all that was learned, is lost).

    Args:
        num_states: L.
        layer_norm: normalize each state over its width first (no learned gain or bias). States of different layers differ in
            size by a factor of a hundred in some encoders (Whisper's upper layers have single dimensions in the hundreds);
            with the norm each weight means what it says.
    """

    def __init__(self, num_states: int, layer_norm: bool = False):
        super().__init__()
        if num_states < 1:
            raise ValueError(f"a layer mix needs at least one state, got num_states={num_states}")
        self.num_states, self.layer_norm = num_states, layer_norm
        self.logits = nn.Parameter(torch.zeros(num_states))

    @property
    def weights(self) -> Tensor:
        """[L], positive, summing to one; detached, for logs and plots."""
        return self.logits.detach().float().softmax(0)

    def forward(self, states: Tensor) -> Tensor:
        """states [B, L, T, D], any float type → [B, T, D] float32 (summed in float32 whatever the states' type)."""
        if states.dim() != 4 or states.shape[1] != self.num_states:
            raise ValueError(f"expected {self.num_states} states as [B, {self.num_states}, T, D]; got {tuple(states.shape)}")
        with torch.autocast(states.device.type, enabled=False):
            states = states.float()
            if self.layer_norm:
                states = F.layer_norm(states, states.shape[-1:])
            weights = self.logits.float().softmax(0).expand(states.shape[0], 1, -1)
            mixed = torch.bmm(weights, states.flatten(2))  # [B, 1, L] x [B, L, T * D]: reads each state once, copies none
        return mixed.view(states.shape[0], *states.shape[2:])

    def extra_repr(self) -> str:
        return f"num_states={self.num_states}, layer_norm={self.layer_norm}"
