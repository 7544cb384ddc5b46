"""The native WebSocket, /v1/listen: Deepgram's names; docs/serving.md is the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from voxkit.serve.live import messages
from voxkit.serve.live.errors import STOPPING, TIMEOUT, UNAUTHORIZED, Gone, StreamError, failed
from voxkit.serve.live.messages import Messages
from voxkit.serve.live.options import Change, change_of, control_of, from_query
from voxkit.serve.live.sessions import Sessions
from voxkit.serve.live.stream import Configured, Ended, Event, Heard, Started, Stream
from voxkit.serve.tokens import Tokens, subprotocol

log = logging.getLogger(__name__)
MOST_BYTES = 2**20  # of a message that is read at all
_LAST = 1.0  # seconds for the last words to one that does not read
_REASON = 120  # bytes of a close frame's reason; it has room for 123


async def listen(socket: Any, sessions: Sessions, tokens: Tokens) -> None:
    """One connection (a starlette WebSocket), from its upgrade to its close."""
    wire, query = await open_wire(socket, sessions)
    try:
        authorize(socket, query, sessions, tokens)
        options = from_query(query, sessions.limits.endpointing.silence)
        async with sessions.admit("listen", options) as stream:
            await _Talk(wire, stream, sessions).run()
        await wire.close(1000)
    except StreamError as error:
        await wire.last(messages.error(error), error)
    except Gone:
        pass
    except Exception:
        log.exception("a session failed")
        error = failed()
        await wire.last(messages.error(error), error)


async def open_wire(socket: Any, sessions: Sessions) -> tuple[Wire, str]:
    """Accept a WebSocket → it, and its query."""
    await socket.accept(subprotocol=subprotocol(list(socket.scope.get("subprotocols", ()))))
    return Wire(socket, sessions.limits.send_timeout), socket.scope.get("query_string", b"").decode("latin-1")


def authorize(socket: Any, query: str, sessions: Sessions, tokens: Tokens) -> None:
    """Ask a WebSocket that was accepted for its token.

    Raises:
        StreamError: UNAUTHORIZED.
    """
    if not tokens.allow(socket.headers.get("authorization"), list(socket.scope.get("subprotocols", ())), query):
        sessions.metrics.refused.labels(UNAUTHORIZED).inc()
        raise StreamError(UNAUTHORIZED, "no token, or a wrong one; send the header Authorization: Bearer TOKEN, or in a browser the "
                                        "subprotocols token and TOKEN")


class Wire:
    """A WebSocket whose other end may be slow, or gone.

    Args:
        socket: a starlette WebSocket that was accepted.
        timeout: seconds that the client may take to read a message.
    """

    def __init__(self, socket: Any, timeout: float) -> None:
        self.socket, self.timeout = socket, timeout

    async def send(self, message: Mapping[str, Any]) -> None:
        """An object as JSON.

        Raises:
            StreamError: TIMEOUT: the client does not read. Gone: it is not there.
        """
        try:
            await asyncio.wait_for(self.socket.send_text(json.dumps(message, ensure_ascii=False)), self.timeout)
        except asyncio.TimeoutError:
            raise StreamError(TIMEOUT, f"nothing was read for {self.timeout:g} s", 1.0) from None
        except Exception as error:  # starlette and the server below have several names for it
            raise Gone from error

    async def receive(self, seconds: float | None) -> str | bytes | None:
        """The next message; None: there was none for so long.

        Raises:
            Gone: the client is not there any more.
        """
        try:
            found = await asyncio.wait_for(self.socket.receive(), seconds)
        except asyncio.TimeoutError:
            return None
        if found["type"] != "websocket.receive":
            raise Gone
        return found["bytes"] if found.get("bytes") is not None else found["text"]

    async def last(self, message: Mapping[str, Any], error: StreamError) -> None:
        """The last message, and the close with its code, if the client still reads."""
        reason = error.message.encode()[:_REASON].decode(errors="ignore")
        with_code = self.socket.close(error.code, reason)
        try:
            await asyncio.wait_for(self.socket.send_text(json.dumps(message, ensure_ascii=False)), _LAST)
            await asyncio.wait_for(with_code, _LAST)
        except Exception:  # gone, or as good as gone; the server drops the connection
            with_code.close()

    async def close(self, code: int) -> None:
        """In order."""
        try:
            await asyncio.wait_for(self.socket.close(code), _LAST)
        except Exception:
            return


class _Talk:
    """A session that was let in."""

    def __init__(self, wire: Wire, stream: Stream, sessions: Sessions) -> None:
        self.wire, self.stream, self.sessions = wire, stream, sessions
        self.messages = Messages(stream.options, sessions.model)
        self.digest = hashlib.sha256()
        self.error: StreamError | None = None  # why it ends, once what was taken has been said

    async def run(self) -> None:
        """From Begin to Metadata.

        Raises:
            StreamError, Gone: as they end it.
        """
        limits = self.sessions.limits
        await self.wire.send(self.messages.begin(self.sessions.host.streaming, {
            "message_seconds": limits.message_seconds, "message_bytes": MOST_BYTES, "idle_timeout": limits.idle,
            "session_seconds": limits.session_seconds, "utterance_seconds": self.sessions.host.limits.utterance}))
        await self.sessions.converse(self.stream, self._read(), self._write(), self._drain)
        if self.error is None or self.error.code == STOPPING:
            await self.wire.send(self.messages.metadata(self.stream.seconds, self.digest.hexdigest()))
        if self.error is not None:
            raise self.error

    async def _drain(self, seconds: float) -> None:
        await self.wire.send(messages.draining(seconds))
        if not self.stream.ending:
            self.error = StreamError(STOPPING, "the server stops; connect anew with `offset`", 0.0)

    async def _read(self) -> None:
        """What the client sends, until it leaves. What it does wrong ends the stream, whose finals come first."""
        while True:
            found = await self.wire.receive(None if self.stream.ending else self.sessions.limits.idle)
            if self.stream.ending:
                continue
            try:
                await self._take(found)
            except StreamError as error:
                self.error = error
                self.stream.end()

    async def _take(self, found: str | bytes | None) -> None:
        if found is None:
            raise StreamError(TIMEOUT, f"no audio for {self.sessions.limits.idle:g} s; send KeepAlive messages where none comes", 0.0)
        if isinstance(found, bytes):
            await self.sessions.take(self.stream, found)
            self.digest.update(found)
            return
        message = control_of(found)
        kind = message["type"]
        if kind == "Finalize":
            self.stream.finalize()
        elif kind == "CloseStream":
            self.stream.end()
        elif kind == "Configure":
            try:
                change = change_of(message, self.stream.options)
            except StreamError as error:
                change = Change(refused=error.message)
            self.stream.configure(change)
        await self.stream.room()

    async def _write(self) -> None:
        async for event in self.stream.events():
            if (message := self._message(event)) is not None:
                await self.wire.send(message)

    def _message(self, event: Event) -> dict[str, Any] | None:
        if isinstance(event, Heard):
            if event.final and event.hypothesis.text:
                self.sessions.metrics.finals.inc()
            return self.messages.results(event)
        if isinstance(event, Configured):
            return self.messages.configured(event)
        if isinstance(event, Started):
            return self.messages.started(event) if self.stream.options.started else None
        assert isinstance(event, Ended)
        return None
