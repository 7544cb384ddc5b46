"""gRPC in Riva's shape (voxkit.proto), with the standard services for health and reflection."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from voxkit.audio.resample import resample
from voxkit.hypothesis import Hypothesis
from voxkit.optional import require
from voxkit.rate import LIVE_RATES, RATE
from voxkit.runtime.checks import check_samples
from voxkit.serve.backend import Asked, confidence
from voxkit.serve.errors import RequestError
from voxkit.serve.inputs import Input, file_from, within
from voxkit.serve.live.errors import BUSY, FAILED, INVALID, STOPPING, TIMEOUT, TOO_LARGE, UNAUTHORIZED, Gone, StreamError
from voxkit.serve.live.options import (
    LONGEST_SILENCE,
    MAX_BOOST,
    MAX_OFFSET,
    SHORTEST_SILENCE,
    USUAL_BOOST,
    StreamOptions,
    check_phrases,
)
from voxkit.serve.live.stream import Ended, Event, Heard, Started, Stream
from voxkit.serve.service import Service

log = logging.getLogger("uvicorn.error")  # beside the line that says where HTTP is
SERVICE = "voxkit.v1.SpeechRecognition"
_STATUS = {FAILED: "INTERNAL", INVALID: "INVALID_ARGUMENT", UNAUTHORIZED: "UNAUTHENTICATED", TIMEOUT: "DEADLINE_EXCEEDED",
           TOO_LARGE: "OUT_OF_RANGE", BUSY: "RESOURCE_EXHAUSTED", STOPPING: "UNAVAILABLE"}
_OF_HTTP = {413: TOO_LARGE, 500: FAILED, 503: BUSY, 504: TIMEOUT}  # everything else is INVALID
_INTERIM_STABILITY = 0.5
_NO_TOKEN = "no token, or a wrong one; send the metadata authorization: Bearer TOKEN"
_HOLDS = 2**16  # bytes of a request besides its audio


class GrpcServer:
    """A gRPC server beside the HTTP one, on the same event loop.

    Args:
        service: its model and its sessions. address: HOST:PORT. certificate, key: files in PEM, for TLS.
    """

    def __init__(self, service: Service, address: str, certificate: str | None = None, key: str | None = None) -> None:
        self.grpc = require("grpc", "serve", why="gRPC")
        self.service, self.address, self.files = service, address, (certificate, key)
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        grpc, limits = self.grpc, self.service.config.limits
        health = require("grpc_health.v1.health", "serve", why="gRPC")
        registered = require("grpc_health.v1.health_pb2_grpc", "serve", why="gRPC")
        reflection = require("grpc_reflection.v1alpha.reflection", "serve", why="gRPC")
        self._states = require("grpc_health.v1.health_pb2", "serve", why="gRPC").HealthCheckResponse
        self.server = grpc.aio.server(options=[
            ("grpc.max_receive_message_length", limits.max_bytes + _HOLDS), ("grpc.max_concurrent_streams", 1000), ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000)])
        self.server.add_generic_rpc_handlers((_Handlers(self.service).methods(),))
        self.health = health.aio.HealthServicer()
        registered.add_HealthServicer_to_server(self.health, self.server)
        for name in ("", SERVICE):
            await self.health.set(name, self._states.SERVING)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server)
        try:
            self.port = self.server.add_secure_port(self.address, self._credentials()) if self.files[0] else \
                self.server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {self.address}: {error}") from error
        await self.server.start()
        log.info("gRPC listens on port %d", self.port)

    async def drain(self) -> None:
        """Say that it stops."""
        await self.health.enter_graceful_shutdown()

    async def stop(self, seconds: float) -> None:
        """End what is under way after so long."""
        await self.server.stop(seconds)

    def _credentials(self) -> Any:
        certificate, key = (open(path, "rb").read() for path in self.files if path)
        return self.grpc.ssl_server_credentials([(key, certificate)])


class _Handlers:
    """The two methods."""

    def __init__(self, service: Service) -> None:
        self.grpc, self.pb = require("grpc", "serve", why="gRPC"), require("voxkit.serve.voxkit_pb2", "serve", why="gRPC")
        self.service = service

    def methods(self) -> Any:
        """As grpc takes them; no generated servicer is needed for that."""
        grpc, pb = self.grpc, self.pb
        return grpc.method_handlers_generic_handler(SERVICE, {
            "Recognize": grpc.unary_unary_rpc_method_handler(self.recognize, None, pb.RecognizeResponse.SerializeToString),
            "StreamingRecognize": grpc.stream_stream_rpc_method_handler(self.streaming, None,
                                                                        pb.StreamingRecognizeResponse.SerializeToString)})

    async def recognize(self, data: bytes, context: Any) -> Any:
        """One utterance, whole."""
        service, limits = self.service, self.service.config.limits
        try:
            self._authorize(context)
            request = self._parsed(self.pb.RecognizeRequest, data)
            asked = request.config
            options = _options(asked)
            if options.phrases:
                await asyncio.to_thread(service.backend.check_phrases, options.phrases, options.boost)

            def read(body: bytes) -> Input:
                if asked.encoding == self.pb.ENCODING_UNSPECIFIED:
                    return file_from(body, limits)
                if len(body) % options.frame_bytes:
                    raise RequestError(422, f"audio of {len(body)} bytes is no whole number of frames of {options.frame_bytes} bytes")
                samples = check_samples(options.samples(body), "audio")
                within(len(samples) / options.rate, "audio", limits)
                return Input("audio", resample(samples, options.rate, RATE), len(samples) / options.rate)

            async def work() -> Hypothesis:
                item = await service.requests.read_bytes(request.audio, read)
                return await service.batcher.submit(Asked("audio", True, options.phrases, options.boost), item, item.seconds)

            hypothesis = await asyncio.wait_for(work(), limits.timeout)
        except (StreamError, RequestError, ValueError, asyncio.TimeoutError) as error:
            await self._abort(context, error)
        return self.pb.RecognizeResponse(alternatives=[self._alternative(hypothesis, asked.enable_word_time_offsets, 0.0)],
                                         audio_processed=hypothesis.audio_duration)

    async def streaming(self, requests: Any, context: Any) -> None:
        """Audio as it comes."""
        try:
            self._authorize(context)
            first = await self._read(context)
            if first is None or first.WhichOneof("streaming_request") != "streaming_config":
                raise StreamError(INVALID, "the first request must be streaming_config")
            config = first.streaming_config
            async with self.service.sessions.admit("grpc", _stream_options(config, self.service.config.live.endpointing.silence)) as stream:
                await self._talk(stream, config, context)
        except StreamError as error:
            await self._abort(context, error)
        except Gone:
            return

    async def _talk(self, stream: Stream, config: Any, context: Any) -> None:
        ends: list[StreamError] = []  # why, once what was taken has been said
        sessions = self.service.sessions

        async def told(seconds: float) -> None:
            await self._write(context, self.pb.StreamingRecognizeResponse(draining=True))
            if not stream.ending:
                ends.append(StreamError(STOPPING, "the server stops; go on elsewhere with offset_seconds", 0.0))

        async def read() -> None:
            try:
                while not stream.ending:
                    request = await self._read(context)
                    if request is None:
                        stream.end()
                    else:
                        await self._take(stream, request)
            except StreamError as error:
                ends.append(error)
                stream.end()

        async def write() -> None:
            async for event in stream.events():
                if (response := self._response(event, config)) is not None:
                    await self._write(context, response)

        await sessions.converse(stream, read(), write(), told)
        if ends:
            raise ends[0]

    async def _take(self, stream: Stream, request: Any) -> None:
        kind = request.WhichOneof("streaming_request")
        if kind == "audio_content":
            await self.service.sessions.take(stream, request.audio_content)
        elif kind == "finalize" and request.finalize:
            stream.finalize()
            await stream.room()
        elif kind == "streaming_config":
            raise StreamError(INVALID, "streaming_config: only the first request may be one")

    async def _write(self, context: Any, response: Any) -> None:
        try:
            await asyncio.wait_for(context.write(response), self.service.sessions.limits.send_timeout)
        except asyncio.TimeoutError:
            raise StreamError(TIMEOUT, "nothing was read", 1.0) from None
        except asyncio.CancelledError:
            raise
        except Exception as error:  # grpc has several names for a client that is gone
            raise Gone from error

    def _response(self, event: Event, config: Any) -> Any:
        offset, pb = config.offset_seconds, self.pb
        if isinstance(event, Heard):
            if event.final and event.hypothesis.text:
                self.service.metrics.finals.inc()
            alternative = self._alternative(event.hypothesis, event.final and config.config.enable_word_time_offsets, offset)
            return pb.StreamingRecognizeResponse(results=[pb.StreamingRecognitionResult(
                alternatives=[alternative], is_final=event.final, stability=1.0 if event.final else _INTERIM_STABILITY,
                audio_processed=event.end + offset, start_seconds=event.start + offset, speech_final=event.pause,
                from_finalize=event.asked)])
        if isinstance(event, Started):
            return pb.StreamingRecognizeResponse(speech_started=True, speech_started_seconds=event.start + offset)
        assert isinstance(event, Ended)  # there is nothing to configure
        return None

    def _alternative(self, hypothesis: Hypothesis, words: bool, offset: float) -> Any:
        found = [self.pb.WordInfo(start_seconds=w.start + offset, end_seconds=w.end + offset, word=w.word, confidence=w.confidence)
                 for w in hypothesis.words] if words else []
        return self.pb.SpeechRecognitionAlternative(transcript=hypothesis.text, confidence=confidence(hypothesis), words=found)

    async def _read(self, context: Any) -> Any:
        """The next request; None: there is none."""
        limit = self.service.sessions.limits.idle
        try:
            data = await asyncio.wait_for(context.read(), limit)
        except asyncio.TimeoutError:
            raise StreamError(TIMEOUT, f"nothing came for {limit:g} s; send a request without content where no audio comes", 0.0) from None
        return None if data is self.grpc.aio.EOF else self._parsed(self.pb.StreamingRecognizeRequest, data)

    def _parsed(self, kind: Any, data: bytes) -> Any:
        """grpc's own parsing would blame the service."""
        try:
            return kind.FromString(data)
        except Exception as error:  # protobuf's implementations have classes of their own
            raise StreamError(INVALID, f"no {kind.DESCRIPTOR.name}: {error}") from error

    def _authorize(self, context: Any) -> None:
        header = dict(context.invocation_metadata() or ()).get("authorization")
        if not self.service.config.tokens.allow(header if isinstance(header, str) else None):
            raise StreamError(UNAUTHORIZED, _NO_TOKEN)

    async def _abort(self, context: Any, error: Exception) -> None:
        retry = None
        if isinstance(error, StreamError):
            code, message, retry = error.code, error.message, error.retry_after
        elif isinstance(error, RequestError):
            code, message, retry = _OF_HTTP.get(error.status, INVALID), error.message, error.retry_after
        elif isinstance(error, asyncio.TimeoutError):
            code, message = TIMEOUT, "no result within the time limit; send shorter audio, or try when fewer do"
        else:
            code, message = INVALID, str(error)
        trailing = (("retry-after", f"{retry:g}"),) if retry is not None else ()
        await context.abort(getattr(self.grpc.StatusCode, _STATUS[code]), message, trailing)


def _options(config: Any) -> StreamOptions:
    """
    Raises:
        StreamError: INVALID: a value that it cannot have.
    """
    if config.encoding not in (0, 1, 2):
        raise StreamError(INVALID, f"encoding: {config.encoding} is none of 0, 1, 2")
    rate, channels = config.sample_rate_hertz or RATE, config.audio_channel_count or 1
    if rate not in LIVE_RATES:
        raise StreamError(INVALID, f"sample_rate_hertz: {rate} is none of {', '.join(map(str, LIVE_RATES))}")
    if channels not in (1, 2):
        raise StreamError(INVALID, f"audio_channel_count: {channels} is none of 1, 2")
    contexts = config.speech_contexts
    boosts = {context.boost for context in contexts if context.boost}
    if len(boosts) > 1 or not all(0 < boost <= MAX_BOOST for boost in boosts):
        raise StreamError(INVALID, f"boost: one for all speech_contexts, above 0 and at most {MAX_BOOST:g}")
    phrases = check_phrases([phrase for context in contexts for phrase in context.phrases], "speech_contexts")
    return StreamOptions("linear32" if config.encoding == 2 else "linear16", rate, channels, phrases=phrases,
                         boost=float(min(boosts, default=USUAL_BOOST)))


def _stream_options(config: Any, silence: float) -> StreamOptions:
    if not 0 <= config.offset_seconds <= MAX_OFFSET:
        raise StreamError(INVALID, f"offset_seconds: {config.offset_seconds} is not between 0 and {MAX_OFFSET:g}")
    pause = config.endpointing_config.stop_history_ms or 1000 * silence
    if not SHORTEST_SILENCE <= pause <= LONGEST_SILENCE:
        raise StreamError(INVALID, f"stop_history_ms: {pause} is not between {SHORTEST_SILENCE} and {LONGEST_SILENCE}")
    return replace(_options(config.config), interim=config.interim_results,
                   silence=None if config.endpointing_config.disabled else pause / 1000)
