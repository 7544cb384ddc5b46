"""Work that nobody waits for ends between two layers, in the thread that was told so alone."""

import threading

import pytest
import torch
from torch import nn

from voxkit.serve.stopping import Stopped, stoppable, watch


def _model(layers, each):
    """Blocks of a linear layer; `each` is called by every block."""
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            each()
            return self.linear(x)

    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(layers)))


@pytest.mark.parametrize("after", [1, 3])
def test_a_model_ends_at_the_next_layer(after):
    event, seen = threading.Event(), []

    def each():
        seen.append(1)
        if len(seen) == after:
            event.set()

    model = _model(6, each)
    watch(model)
    watch(model)  # once more changes nothing
    with pytest.raises(Stopped), stoppable(event):
        model(torch.ones(1, 4))
    assert len(seen) == after
    with pytest.raises(Stopped), stoppable(event):
        pass
    seen.append(1)
    model(torch.ones(1, 4))  # outside nothing is looked at
    assert len(seen) == after + 7


def test_other_threads_go_on():
    event, found = threading.Event(), []
    model = _model(3, lambda: None)
    expected = model(torch.ones(1, 4))
    watch(model)

    def other():
        with stoppable(threading.Event()):
            found.append(model(torch.ones(1, 4)))

    event.set()
    thread = threading.Thread(target=other)
    with pytest.raises(Stopped), stoppable(event):
        pass
    thread.start()
    thread.join(10)
    assert torch.equal(found[0], expected)
