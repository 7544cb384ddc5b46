"""A client of /v1/listen that tests look through: what came, in order, and how it ended."""

import json
from urllib.parse import urlencode

import numpy as np
import pytest

websockets = pytest.importorskip("websockets.sync.client", reason="the service needs the extra serve")
from websockets.exceptions import ConnectionClosed  # noqa: E402


class Listener:
    """A connection. `query`: parameters; a list is one that is repeated."""

    def __init__(self, running, path="/v1/listen", headers=None, subprotocols=None, **query):
        address = f"ws://127.0.0.1:{running.port}{path}?{urlencode(query, doseq=True)}"
        self.socket = websockets.connect(address, additional_headers=headers, subprotocols=subprotocols, open_timeout=30, max_size=None)
        self.messages, self.code = [], None

    def send(self, what):
        """bytes, or an object as JSON."""
        self.socket.send(what if isinstance(what, (bytes, str)) else json.dumps(what))
        return self

    def audio(self, data, piece=3200):
        """Bytes, in messages of `piece`."""
        for first in range(0, len(data), piece):
            self.socket.send(data[first:first + piece])
        return self

    def read(self, until=None):
        """Messages until one for which `until` is true (it is returned), or the end."""
        while True:
            try:
                self.messages.append(json.loads(self.socket.recv(timeout=30)))
            except ConnectionClosed:
                self.code = self.socket.close_code
                assert until is None, f"closed with {self.code} after {self.messages[-1:]}"
                return None
            if until is not None and until(self.messages[-1]):
                return self.messages[-1]

    def close(self):
        """CloseStream, then everything until the end."""
        self.send({"type": "CloseStream"}).read()
        return self

    def of(self, kind):
        """The messages of a type."""
        return [m for m in self.messages if m["type"] == kind]

    @property
    def finals(self):
        return [m for m in self.of("Results") if m["is_final"]]

    @property
    def text(self):
        """Of all finals."""
        return " ".join(said for m in self.finals if (said := transcript(m)))

    def vanish(self):
        """The connection breaks, without a word."""
        self.socket.socket.close()


def transcript(message):
    return message["channel"]["alternatives"][0]["transcript"]


def final(message):
    return message["type"] == "Results" and message["is_final"]


class LoudnessVad:
    """In the place of silero: what is loud is speech. The tests' audio is none that silero would know."""

    def __init__(self, threads=1):
        pass

    def stream(self):
        return _LoudnessStream()

    def probabilities(self, audio):
        return self.stream().accept(audio)


class _LoudnessStream:
    def __init__(self):
        self.waiting = np.zeros(0, np.float32)

    def accept(self, audio):
        audio = np.concatenate([self.waiting, audio])
        whole = len(audio) // 512 * 512
        self.waiting = audio[whole:]
        return (np.abs(audio[:whole]).reshape(-1, 512).max(axis=1) > 0.15).astype(np.float32)
