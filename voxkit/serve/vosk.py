"""Vosk's dialect, /vosk: {"config": {"sample_rate": 16000}}, binary 16-bit audio, {"eof": 1}; one answer to each message of audio.

The client never chooses the model. Of the configuration `sample_rate`, `words` and `phrase_list` count. Pauses end utterances, as there.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import replace
from typing import Any

from voxkit.hypothesis import Hypothesis, Word
from voxkit.rate import LIVE_RATES
from voxkit.serve.live.errors import FAILED, INVALID, STOPPING, TIMEOUT, Gone, StreamError
from voxkit.serve.live.listen import Wire, authorize, log, open_wire
from voxkit.serve.live.options import StreamOptions, check_phrases
from voxkit.serve.live.sessions import Sessions
from voxkit.serve.live.stream import Heard, Stream
from voxkit.serve.realtime import IDLE
from voxkit.serve.tokens import Tokens

_CONFIG = ("sample_rate", "words", "phrase_list", "max_alternatives", "model")


async def vosk(socket: Any, sessions: Sessions, tokens: Tokens) -> None:
    """One connection (a starlette WebSocket). The dialect has no word for errors: the close code and its reason say them."""
    wire, query = await open_wire(socket, sessions)
    try:
        authorize(socket, query, sessions, tokens)
        await _Vosk(wire, sessions).run()
        await wire.close(1000)
    except StreamError as error:
        await wire.last({"error": error.message}, error)
    except Gone:
        pass
    except Exception:
        log.exception("a session failed")
        failed = StreamError(FAILED, "the service failed; its log says more", 1.0)
        await wire.last({"error": failed.message}, failed)


class _Vosk:
    """A session: its stream begins with the first audio."""

    def __init__(self, wire: Wire, sessions: Sessions) -> None:
        self.wire, self.sessions = wire, sessions
        self.options, self.words = StreamOptions(interim=True, silence=sessions.limits.endpointing.silence), False
        self.partial, self.finals = "", deque[Hypothesis]()
        self.error: StreamError | None = None

    async def run(self) -> None:
        """To the end of the connection."""
        while not isinstance(first := await self._next(), bytes):
            if "eof" in first:
                await self.wire.send({"text": ""})
                return
            self._configure(first)
        async with self.sessions.admit("vosk", self.options) as stream:
            await self.sessions.converse(stream, self._read(stream, first), self._listen(stream), self._drain(stream))
        found = [*self.finals]
        words = [word for hypothesis in found for word in hypothesis.words]
        await self.wire.send(self._result(" ".join(h.text for h in found if h.text), words))
        if self.error is not None:
            raise self.error

    async def _read(self, stream: Stream, data: bytes) -> None:
        while not stream.ending:
            try:
                await self.sessions.take(stream, data)
                await self._answer()
                message = await self._next()
                while not isinstance(message, bytes):
                    if "eof" in message:
                        stream.end()
                        return
                    raise StreamError(INVALID, "config: it comes before the audio")
                data = message
            except StreamError as error:
                self.error = error
                stream.end()

    async def _answer(self) -> None:
        await asyncio.sleep(0)  # what was said meanwhile
        if self.finals:
            hypothesis = self.finals.popleft()
            await self.wire.send(self._result(hypothesis.text, hypothesis.words))
        else:
            await self.wire.send({"partial": self.partial})

    async def _listen(self, stream: Stream) -> None:
        async for event in stream.events():
            if isinstance(event, Heard):
                self.partial = "" if event.final else event.hypothesis.text
                if event.final and event.hypothesis.text:
                    self.sessions.metrics.finals.inc()
                    self.finals.append(event.hypothesis)

    def _drain(self, stream: Stream) -> Any:
        async def tell(seconds: float) -> None:
            if not stream.ending:
                self.error = StreamError(STOPPING, "the server stops; connect anew", 0.0)
        return tell

    def _result(self, text: str, words: list[Word]) -> dict[str, Any]:
        found = [{"conf": round(w.confidence, 4), "end": round(w.end, 3), "start": round(w.start, 3), "word": w.word} for w in words]
        return {"result": found, "text": text} if self.words and found else {"text": text}

    async def _next(self) -> bytes | dict[str, Any]:
        found = await self.wire.receive(IDLE)
        if found is None:
            raise StreamError(TIMEOUT, f"nothing came for {IDLE:g} s", 0.0)
        if isinstance(found, bytes):
            return found
        try:
            message = json.loads(found)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not ("eof" in message or isinstance(message.get("config"), dict)):
            raise StreamError(INVALID, 'send {"config": {...}}, binary audio, {"eof": 1}')
        return message

    def _configure(self, message: dict[str, Any]) -> None:
        config = message["config"]
        if unknown := next((name for name in config if name not in _CONFIG), None):
            raise StreamError(INVALID, f"config: {unknown[:40]}: no such field; there are: {', '.join(_CONFIG)}")
        rate = config.get("sample_rate", self.options.rate)
        if rate not in LIVE_RATES:
            raise StreamError(INVALID, f"sample_rate: {str(rate)[:40]} is none of {', '.join(map(str, LIVE_RATES))}")
        self.words = bool(config.get("words", False))
        self.options = replace(self.options, rate=int(rate), phrases=check_phrases(config.get("phrase_list") or [], "phrase_list"))
