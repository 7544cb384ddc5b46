"""A server that speaks docs/serving.md and does what no real one does on demand: breaks off, refuses, is slow, drains.

It "recognizes" audio in which each tenth of a second holds its own number: `ramp(seconds)`. The words of all finals together are 0, 1, 2 …
exactly where no audio was lost and none was answered twice.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import numpy as np

from tests.clients.background import BackgroundServer

RATE, STEP = 16_000, 1600


def ramp(seconds: float) -> np.ndarray:
    """Samples [S] int16 whose tenths of a second hold 0, 1, 2 …"""
    return (np.arange(round(seconds * RATE)) // STEP).astype(np.int16)


@dataclass
class Plan:
    """What happens to one connection.

    Attributes:
        refuse: (code, variant, retry_after) instead of `Begin`; silent: nothing instead of it, then a broken connection.
        break_after, drain_after, fail_after: seconds of audio after which the connection is broken, the server drains, or fails with
            `failure`.
        deaf_to_finalize: the connection breaks where a final was asked for, before it is sent.
        slow: seconds that the server sleeps before each message it reads; late: before `Begin`.
    """

    refuse: tuple[int, str, float | None] | None = None
    silent: bool = False
    break_after: float | None = None
    drain_after: float | None = None
    fail_after: float | None = None
    failure: int = 4400
    deaf_to_finalize: bool = False
    slow: float = 0.0
    late: float = 0.0


@dataclass
class Seen:
    """Of one connection: what was asked for, the header and subprotocols, seconds of audio, texts in order, how it ended."""

    query: dict[str, list[str]]
    authorization: str | None
    subprotocols: str | None
    seconds: float = 0.0
    commands: list[dict] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)  # bytes of each
    done: bool = False


class FakeServer(BackgroundServer):
    """Args: plans for the first connections, in order; the others are served well. utterance: seconds after which one ends by itself."""

    def __init__(self, *plans: Plan, utterance: float = 1.0) -> None:
        self.plans, self.utterance, self.seen = list(plans), utterance, []
        super().__init__()

    async def _main(self) -> None:
        from websockets.asyncio.server import serve
        from websockets.exceptions import ConnectionClosed

        async def handle(connection) -> None:
            try:
                await self._session(connection)
            except ConnectionClosed:
                pass

        def chosen(connection, offered):
            return offered[0] if offered else None

        self._stop = asyncio.Event()
        async with serve(handle, "127.0.0.1", 0, select_subprotocol=chosen, close_timeout=1) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()

    async def _session(self, connection) -> None:
        plan = self.plans.pop(0) if self.plans else Plan()
        headers, address = connection.request.headers, urlsplit(connection.request.path)
        query = parse_qs(address.query)
        seen = Seen(query, headers.get("Authorization"), headers.get("Sec-WebSocket-Protocol"))
        self.seen.append(seen)
        if address.path != "/v1/listen":
            return await _refuse(connection, 4400, "INVALID", f"no such path: {address.path}", None)
        if plan.refuse is not None:
            return await _refuse(connection, *plan.refuse[:2], "as the test wants", plan.refuse[2])
        if plan.silent:
            return connection.transport.abort()
        await _Session(connection, plan, seen, self.utterance).run()
        seen.done = True


class _Session:
    def __init__(self, connection, plan: Plan, seen: Seen, utterance: float) -> None:
        self.connection, self.plan, self.seen = connection, plan, seen
        self.offset = float(seen.query.get("offset", ["0"])[0])
        self.interim = seen.query.get("interim_results", ["false"]) == ["true"]
        self.utterance = round(utterance * RATE) if seen.query.get("endpointing") != ["false"] else 10**9
        self.audio, self.begin = np.zeros(0, np.int16), 0  # all of it; where the utterance begins
        self.draining = False

    async def run(self) -> None:
        await asyncio.sleep(self.plan.late)
        await self.say(type="Begin", request_id=f"r{id(self)}", protocol=1, model="fake", streaming=True, offset=self.offset, limits={},
                       unknown={"nested": [1, None, "\u00e9\u2028\ud83d\ude00"]})
        await self.say(type="SomethingNew", field=1)
        async for message in self.connection:
            await asyncio.sleep(self.plan.slow)
            if isinstance(message, bytes):
                if await self.hear(message):
                    return
                continue
            command = json.loads(message)
            self.seen.commands.append(command)
            if command["type"] == "Finalize":
                if self.plan.deaf_to_finalize:
                    return self.connection.transport.abort()
                await self.final(len(self.audio), speech_final=True, from_finalize=True)
            elif command["type"] == "Configure":
                bad = any(not phrase for phrase in command.get("keyterms", []))
                await self.say(type="ConfigureFailure", description="an empty phrase") if bad else await self.say(type="ConfigureSuccess")
            elif command["type"] == "CloseStream":
                await self.final(len(self.audio), speech_final=False, from_finalize=False)
                return await self.leave(1000)

    async def hear(self, message: bytes) -> bool:
        """Audio; whether the session is over."""
        self.seen.messages.append(len(message))
        if not self.audio.size:
            await self.say(type="SpeechStarted", channel=[0, 1], timestamp=self.offset)
        self.audio = np.concatenate([self.audio, np.frombuffer(message, "<i2")])
        self.seen.seconds = len(self.audio) / RATE
        plan = self.plan
        while len(self.audio) - self.begin >= self.utterance:
            await self.final(self.begin + self.utterance, speech_final=True, from_finalize=False)
        if plan.break_after is not None and self.seen.seconds >= plan.break_after:
            self.connection.transport.abort()
            return True
        if plan.fail_after is not None and self.seen.seconds >= plan.fail_after:
            await _refuse(self.connection, plan.failure, "AS_PLANNED", "as the test wants", None)
            return True
        if plan.drain_after is not None and self.seen.seconds >= plan.drain_after:
            await self.say(type="Draining", seconds=20.0)
            await self.final(len(self.audio), speech_final=False, from_finalize=False)
            await self.leave(4503)
            return True
        if self.interim and len(self.audio) > self.begin:
            await self.results(len(self.audio), False, False, False)
        return False

    async def final(self, end: int, *, speech_final: bool, from_finalize: bool) -> None:
        await self.results(end, True, speech_final, from_finalize)
        self.begin = end

    async def results(self, end: int, is_final: bool, speech_final: bool, from_finalize: bool) -> None:
        part = self.audio[self.begin:end]
        heard = [(int(part[i]), i) for i in range(len(part)) if i == 0 or part[i] != part[i - 1]]
        words = [{"word": str(n), "start": self.offset + (self.begin + i) / RATE, "end": self.offset + (self.begin + i + STEP) / RATE,
                  "confidence": 0.5} for n, i in heard]
        best = {"transcript": " ".join(w["word"] for w in words), "confidence": 0.75, "words": words if is_final else []}
        await self.say(type="Results", channel_index=[0, 1], start=self.offset + self.begin / RATE, duration=(end - self.begin) / RATE,
                       is_final=is_final, speech_final=speech_final, from_finalize=from_finalize, channel={"alternatives": [best]})

    async def leave(self, code: int) -> None:
        await self.say(type="Metadata", request_id="r", duration=self.seen.seconds, channels=1)
        if code == 1000:
            await self.connection.close(1000)
        else:
            await _refuse(self.connection, code, "STOPPING", "the server stops", 0.0)

    async def say(self, **message) -> None:
        await self.connection.send(json.dumps(message))


async def _refuse(connection, code: int, variant: str, message: str, retry_after: float | None) -> None:
    await connection.send(json.dumps({"type": "Error", "code": code, "variant": variant, "message": message, "description": message,
                                      "retry_after": retry_after}))
    await connection.close(code, variant)
