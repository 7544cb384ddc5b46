"""Ending the work of a model that nobody waits for any more: between two of its layers.

    watch(model)
    with stoppable(event):
        model(...)                  # raises Stopped at the next layer once event.set() was called, from whatever thread
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_current = threading.local()


class Stopped(Exception):
    """The work was ended from outside."""


def watch(model: Any) -> None:
    """Let the parts of a model (an `nn.Module`) that hold other parts look for the end before they work; once is enough."""
    for module in model.modules():
        if next(module.children(), None) is not None and not hasattr(module, "_voxkit_watched"):
            module.register_forward_pre_hook(_look)
            module._voxkit_watched = True


@contextlib.contextmanager
def stoppable(event: threading.Event | None) -> Iterator[None]:
    """What this thread computes inside ends once the event is set."""
    before = getattr(_current, "event", None)
    _current.event = event
    try:
        check()
        yield
    finally:
        _current.event = before


def check() -> None:
    """End here, where the event of this thread is set.

    Raises:
        Stopped: it is.
    """
    event = getattr(_current, "event", None)
    if event is not None and event.is_set():
        raise Stopped


def _look(module: Any, inputs: Any) -> None:
    check()
