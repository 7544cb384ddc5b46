"""OpenAI's live transcription, /v1/realtime?intent=transcription, as a translation of a stream.

Taken: session.update (transcription_session.update), input_audio_buffer.append, .commit, .clear. Said: session.created, session.updated,
input_audio_buffer.speech_started, .speech_stopped, .committed, conversation.item.input_audio_transcription.delta, .completed, error.
Audio is 24 kHz, 16 bits, one channel, in base64. A mistake of the client is told by `error` and the session goes on; what ends it is told
too, and then it is closed with the codes of /v1/listen.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from voxkit.rate import LIVE_RATES
from voxkit.serve.live.errors import FAILED, INVALID, STOPPING, TIMEOUT, Gone, StreamError
from voxkit.serve.live.listen import Wire, authorize, log, open_wire
from voxkit.serve.live.options import LONGEST_SILENCE, SHORTEST_SILENCE, USUAL_SILENCE, Change, StreamOptions, check_phrases
from voxkit.serve.live.sessions import Sessions
from voxkit.serve.live.stream import Configured, Ended, Heard, Started
from voxkit.serve.tokens import Tokens

IDLE = 60.0  # seconds; the dialect has no word for "still here"
_UPDATES = ("session.update", "transcription_session.update")
_ITEM = "conversation.item.input_audio_transcription."


async def realtime(socket: Any, sessions: Sessions, tokens: Tokens) -> None:
    """One connection (a starlette WebSocket)."""
    wire, query = await open_wire(socket, sessions)
    try:
        authorize(socket, query, sessions, tokens)
        if parse_qs(query).get("intent") != ["transcription"]:
            raise StreamError(INVALID, "only ?intent=transcription is served: this server transcribes")
        await _Realtime(wire, sessions).run()
        await wire.close(1000)
    except StreamError as error:
        await wire.last(_error(error), error)
    except Gone:
        pass
    except Exception:
        log.exception("a session failed")
        error = StreamError(FAILED, "the service failed; its log says more", 1.0)
        await wire.last(_error(error), error)


class _Realtime:
    """A session: its stream begins with the first audio, whose form the updates before it say."""

    def __init__(self, wire: Wire, sessions: Sessions) -> None:
        self.wire, self.sessions = wire, sessions
        self.options = StreamOptions(rate=24000, interim=True, silence=sessions.limits.endpointing.silence)
        self.id = f"sess_{uuid.uuid4().hex}"
        self.item, self.before, self.said = _new("item"), None, ""
        self.error: StreamError | None = None

    async def run(self) -> None:
        """To the end of the connection."""
        await self._send("session.created", session=self._session())
        first = None
        while first is None:
            first = await self._before_audio()
        async with self.sessions.admit("realtime", self.options) as stream:
            self.stream = stream
            await self.sessions.converse(stream, self._read(first), self._write(), self._drain)
        if self.error is not None:
            raise self.error

    async def _before_audio(self) -> Mapping[str, Any] | None:
        """The first message with audio; None: it was another."""
        message = await self._message()
        if message["type"] == "input_audio_buffer.append":
            return message
        with self._told() as told:
            if message["type"] in _UPDATES:
                self.options = _updated(self.options, message)
                await self._send("session.updated", session=self._session())
            elif message["type"] != "input_audio_buffer.clear":
                raise StreamError(INVALID, f"{message['type']}: there is no audio yet")
        await self._say(told, message)
        return None

    async def _read(self, message: Mapping[str, Any]) -> None:
        while True:
            try:
                if not self.stream.ending:
                    with self._told() as told:
                        await self._take(message)
                    await self._say(told, message)
                message = await self._message()
            except StreamError as error:
                self.error = self.error or error  # what ended it, not what came behind the end
                self.stream.end()

    async def _take(self, message: Mapping[str, Any]) -> None:
        kind, stream = message["type"], self.stream
        if kind == "input_audio_buffer.append":
            data = _audio(message)
            most = int(self.sessions.limits.message_seconds * stream.options.rate) * stream.options.frame_bytes
            for first in range(0, len(data), most):
                await self.sessions.take(stream, data[first:first + most])
        elif kind == "input_audio_buffer.commit":
            stream.finalize()
            await stream.room()
        elif kind in _UPDATES:
            asked = _updated(self.options, message)
            if asked.rate != self.options.rate or (asked.silence is None) != (self.options.silence is None):
                raise StreamError(INVALID, "the audio's format, and whether pauses end utterances, cannot change once there is audio")
            self.options = asked
            stream.configure(Change(asked.phrases, asked.silence))
        elif kind == "input_audio_buffer.clear":
            raise StreamError(INVALID, "input_audio_buffer.clear: audio is recognized as it comes and cannot be taken back")
        else:
            raise StreamError(INVALID, f"{str(kind)[:60]}: no such message; there are: session.update, input_audio_buffer.append, .commit")

    async def _write(self) -> None:
        async for event in self.stream.events():
            if isinstance(event, Started):
                await self._send("input_audio_buffer.speech_started", audio_start_ms=round(1000 * event.start), item_id=self.item)
            elif isinstance(event, Heard):
                await self._heard(event)
            elif isinstance(event, Configured):
                if event.refused is not None:
                    await self.wire.send(_error(StreamError(INVALID, event.refused)))
                else:
                    await self._send("session.updated", session=self._session())
            else:
                assert isinstance(event, Ended)

    async def _heard(self, event: Heard) -> None:
        text = event.hypothesis.text
        if not event.final:
            stable = text.rpartition(" ")[0]  # its last word may go on
            if stable.startswith(self.said) and len(stable) > len(self.said):
                await self._delta(stable)
            return
        if not text and not event.asked:  # silence
            return
        if event.pause and not event.asked:
            await self._send("input_audio_buffer.speech_stopped", audio_end_ms=round(1000 * event.end), item_id=self.item)
        await self._send("input_audio_buffer.committed", item_id=self.item, previous_item_id=self.before)
        if text.startswith(self.said) and len(text) > len(self.said):
            await self._delta(text)
        if text:
            self.sessions.metrics.finals.inc()
        await self._send(f"{_ITEM}completed", item_id=self.item, content_index=0, transcript=text,
                         usage={"type": "duration", "seconds": round(event.end - event.start, 3)})
        self.before, self.item, self.said = self.item, _new("item"), ""

    async def _delta(self, text: str) -> None:
        delta, self.said = text[len(self.said):], text
        await self._send(f"{_ITEM}delta", item_id=self.item, content_index=0, delta=delta)

    async def _message(self) -> Mapping[str, Any]:
        """The next one.

        Raises:
            StreamError: TIMEOUT: there is none; INVALID: it is none.
        """
        found = await self.wire.receive(IDLE)
        if found is None:
            raise StreamError(TIMEOUT, f"nothing came for {IDLE:g} s", 0.0)
        try:
            message = json.loads(found)
        except (ValueError, RecursionError):
            raise StreamError(INVALID, "a message that is no JSON") from None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise StreamError(INVALID, "a message without a type")
        return message

    async def _drain(self, seconds: float) -> None:
        if not self.stream.ending:
            self.error = StreamError(STOPPING, "the server stops; connect anew", 0.0)

    @contextlib.contextmanager
    def _told(self) -> Any:
        """Mistakes that do not end the session."""
        told: list[StreamError] = []
        try:
            yield told
        except StreamError as error:
            if error.code != INVALID:
                raise
            told.append(error)

    async def _say(self, told: list[StreamError], message: Mapping[str, Any]) -> None:
        for error in told:
            await self.wire.send(_error(error, message.get("event_id")))

    async def _send(self, kind: str, **fields: Any) -> None:
        await self.wire.send({"type": kind, "event_id": _new("event"), **fields})

    def _session(self) -> dict[str, Any]:
        turns = None if self.options.silence is None else {"type": "server_vad", "silence_duration_ms": self.options.endpointing}
        return {"id": self.id, "object": "realtime.transcription_session", "type": "transcription", "audio": {"input": {
            "format": {"type": "audio/pcm", "rate": self.options.rate}, "transcription": {"model": self.sessions.model},
            "turn_detection": turns}}}


def _updated(options: StreamOptions, message: Mapping[str, Any]) -> StreamOptions:
    """What an update says, in either of OpenAI's forms.

    Raises:
        StreamError: INVALID.
    """
    session = message.get("session")
    if not isinstance(session, dict):
        raise StreamError(INVALID, "session: must be an object")
    older = message["type"] == _UPDATES[1]
    audio = session if older else _object(_object(session, "audio"), "input")
    form = audio.get("input_audio_format") if older else audio.get("format")
    if form is not None:
        kind, rate = (form, 24000) if older else (form.get("type"), form.get("rate", 24000)) if isinstance(form, dict) else (form, 24000)
        if kind not in ("pcm16", "audio/pcm") or rate not in LIVE_RATES:
            raise StreamError(INVALID, f"format: audio/pcm with a rate of {', '.join(map(str, LIVE_RATES))} is taken")
        options = replace(options, rate=rate)
    if "turn_detection" in audio:
        options = replace(options, silence=_silence(audio["turn_detection"]))
    asked = _object(audio, "input_audio_transcription" if older else "transcription")
    return replace(options, phrases=check_phrases(asked["keywords"], "keywords")) if asked.get("keywords") is not None else options


def _silence(turns: Any) -> float | None:
    if turns is None:
        return None
    pause = turns.get("silence_duration_ms", USUAL_SILENCE) if isinstance(turns, dict) else None
    if isinstance(pause, bool) or not isinstance(pause, (int, float)) or not SHORTEST_SILENCE <= pause <= LONGEST_SILENCE:
        raise StreamError(INVALID, f"turn_detection: null, or silence_duration_ms of {SHORTEST_SILENCE} to {LONGEST_SILENCE}")
    return pause / 1000


def _object(inside: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = inside.get(name)
    if found is not None and not isinstance(found, dict):
        raise StreamError(INVALID, f"{name}: must be an object")
    return found or {}


def _audio(message: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(message["audio"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise StreamError(INVALID, "audio: must be base64 of 16-bit samples") from None


def _error(error: StreamError, event: Any = None) -> dict[str, Any]:
    kind = "invalid_request_error" if error.code == INVALID else "server_error"
    return {"type": "error", "event_id": _new("event"), "error": {"type": kind, "code": error.variant.lower(), "message": error.message,
                                                                  "param": None, "event_id": event if isinstance(event, str) else None}}


def _new(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
