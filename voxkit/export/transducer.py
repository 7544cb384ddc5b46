"""The graphs of a transducer behind its encoder.

    hear.onnx   states [N, D] → heard [N, J]
    say.onnx    context [N, C] int64, the last tokens → said [N, J]
    join.onnx   heard [N, J], said [N, J] → log_probs [N, V]

A stateless decoder sees no more than its last tokens, so that these graphs have no state: a search keeps contexts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxkit.export.trace import Graph, Port


class Hear(nn.Module):
    """See the module."""

    def __init__(self, transducer: Any) -> None:
        super().__init__()
        self.transducer = transducer

    def forward(self, states: Tensor) -> tuple[Tensor]:
        return (self.transducer.hear(states),)


class Say(nn.Module):
    """See the module."""

    def __init__(self, transducer: Any) -> None:
        super().__init__()
        self.transducer = transducer

    def forward(self, context: Tensor) -> tuple[Tensor]:
        decoder = self.transducer.decoder  # the convolution itself, which runtimes know, and not what is quicker in torch
        return (self.transducer.joiner.decoder_proj(decoder(context)[:, -1]),)


class Join(nn.Module):
    """See the module."""

    def __init__(self, transducer: Any) -> None:
        super().__init__()
        self.transducer = transducer

    def forward(self, heard: Tensor, said: Tensor) -> tuple[Tensor]:
        return (self.transducer.join(heard, said),)


def transducer_graphs(transducer: Any) -> list[Graph]:
    """The three graphs of a transducer in eval mode, float32."""
    joiner, ranges = transducer.joiner, {"batch": (1, 1000000)}
    context = torch.randint(1, transducer.decoder.embedding.num_embeddings, (5, transducer.decoder.context))
    context[0, :-1] = transducer.start
    states, heard, said = (torch.randn(5, n) for n in (joiner.encoder_proj.in_features, *2 * [joiner.encoder_proj.out_features]))
    row = ("batch", None)
    return [Graph("hear", Hear(transducer), [Port("states", states, row)], [Port("heard", axes=row)], ranges),
            Graph("say", Say(transducer), [Port("context", context, row)], [Port("said", axes=row)], ranges),
            Graph("join", Join(transducer), [Port("heard", heard, row), Port("said", said, row)], [Port("log_probs", axes=row)], ranges)]


def about_transducer(transducer: Any) -> dict[str, Any]:
    """What the runtime has to know, for meta.json: blank's id, and what hypotheses that said nothing have for their last tokens."""
    return {"blank": transducer.blank, "context": transducer.init_context(1)[0].tolist()}
