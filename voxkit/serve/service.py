"""A service without a socket: a model, what stands before it, its live sessions, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxkit.serve.backend import Backend
from voxkit.serve.batcher import Batcher, BatchingConfig
from voxkit.serve.inputs import Limits
from voxkit.serve.live.host import Host, HostLimits
from voxkit.serve.live.segments import SegmentHost
from voxkit.serve.live.sessions import LiveLimits, Sessions
from voxkit.serve.live.streaming import StreamingHost
from voxkit.serve.metrics import Metrics
from voxkit.serve.requests import Requests
from voxkit.serve.tokens import Tokens


@dataclass
class ServeConfig:
    """Attributes:
    limits: what is taken. batching: how requests are put together. live: what live sessions may do.
    tokens: who may ask.
    """

    limits: Limits = field(default_factory=Limits)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    live: LiveLimits = field(default_factory=LiveLimits)
    tokens: Tokens = field(default_factory=Tokens)


@dataclass
class Service:
    """What every protocol works with: the model, what stands before it, and who is let in."""

    backend: Backend
    config: ServeConfig
    batcher: Batcher
    requests: Requests
    sessions: Sessions
    metrics: Metrics

    async def start(self) -> None:
        """Begin; on the loop of the requests."""
        self.requests.start()
        await self.batcher.start()
        await self.sessions.start()

    async def stop(self) -> None:
        """Let go of everything."""
        self.requests.stop()
        await self.sessions.stop()
        await self.batcher.stop()


def make_service(backend: Backend, config: ServeConfig | None = None) -> Service:
    """The parts of a service.

    Raises:
        ValueError: options that cannot be, all at once.
    """
    config = config or ServeConfig()
    if problems := config.limits.problems() + config.batching.problems() + config.live.problems():
        raise ValueError("; ".join(problems))
    metrics = Metrics()
    batcher = Batcher(lambda asked, items, unwanted: backend.recognize(items, asked, unwanted), config.batching)
    limits = HostLimits(utterance=config.limits.max_seconds, endpointing=config.live.endpointing, delay=config.live.max_delay)
    host: Host = StreamingHost(backend.streaming, limits, metrics) if backend.streaming is not None else SegmentHost(
        backend, batcher, limits, metrics)
    metrics.watch("voxkit_waiting", "Utterances that wait for the model", lambda: batcher.waiting)
    metrics.watch("voxkit_round_now_seconds", "Time that a slice of all live sessions takes now", lambda: host.delay)
    return Service(backend, config, batcher, Requests(config.limits), Sessions(host, config.live, metrics, backend.name), metrics)
