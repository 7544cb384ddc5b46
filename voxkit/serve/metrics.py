"""What the service counts, for Prometheus: GET /metrics."""

from __future__ import annotations

from collections.abc import Callable

from voxkit.optional import require

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counters of one service.

    Attributes:
        sessions: live ones, by protocol; opened, ended: how many, the latter by close code; refused: not let in, by code.
        audio_seconds: of live sessions. result_seconds: from the last audio of an utterance to its text. round_seconds: that a slice of all
            live sessions took. finals: utterances that ended with text.
        requests: HTTP requests for a transcript, by path and status.
    """

    def __init__(self) -> None:
        prometheus = require("prometheus_client", "serve", why="GET /metrics")
        self._render, self.content_type = prometheus.generate_latest, prometheus.CONTENT_TYPE_LATEST
        self._gauge = prometheus.Gauge
        self.registry = prometheus.CollectorRegistry()
        counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
        self.sessions = gauge("voxkit_sessions", "Live sessions", ["protocol"], registry=self.registry)
        self.opened = counter("voxkit_sessions_opened", "Live sessions that were let in", ["protocol"], registry=self.registry)
        self.ended = counter("voxkit_sessions_ended", "Live sessions that ended", ["code"], registry=self.registry)
        self.refused = counter("voxkit_sessions_refused", "Live sessions that were not let in", ["code"], registry=self.registry)
        self.audio_seconds = counter("voxkit_audio_seconds", "Seconds of audio received by live sessions", registry=self.registry)
        self.finals = counter("voxkit_finals", "Utterances of live sessions that ended with text", registry=self.registry)
        self.result_seconds = histogram("voxkit_result_seconds", "From the arrival of audio to the text that it gave",
                                        buckets=_SECONDS, registry=self.registry)
        self.round_seconds = histogram("voxkit_round_seconds", "Time that a slice of all live sessions took", buckets=_SECONDS,
                                       registry=self.registry)
        self.requests = counter("voxkit_requests", "Requests for a transcript", ["path", "status"], registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when the page is."""
        self._gauge(name, text, registry=self.registry).set_function(value)

    def page(self) -> bytes:
        """Prometheus' text format."""
        return self._render(self.registry)
