"""Talking to `voxkit serve`: speech goes up as it is spoken, text comes down; numpy, websockets and httpx are all it needs.

    from voxkit.client import ListenOptions, Stream

    with Stream(ListenOptions(url="ws://127.0.0.1:8000")) as stream:
        for piece in microphone:                   # 16-bit samples, as bytes or as an array
            stream.send(piece)
            for event in stream.pending():
                ...
        results = [event for event in stream.finish() if isinstance(event, Result) and event.final]

`voxkit.client.asynchronous.AsyncStream` is the same for asyncio, `voxkit.client.files` sends files.
"""

from voxkit.client.asynchronous import AsyncStream
from voxkit.client.errors import ClientError
from voxkit.client.messages import Configured, Connected, Finished, Reconnecting, Result, SpeechStarted, Word
from voxkit.client.options import ListenOptions, Retry
from voxkit.client.synchronous import Stream

__all__ = ["AsyncStream", "ClientError", "Configured", "Connected", "Finished", "ListenOptions", "Reconnecting", "Result", "Retry",
           "SpeechStarted", "Stream", "Word"]
