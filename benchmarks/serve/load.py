"""How many live sessions a machine takes: `python -m benchmarks.serve.load ARTIFACT --audio FOLDER --sessions 8 16 24`.

Each client speaks in real time, on the same machine as the server. For each number of sessions: the part of finals' latency that is
computed (from the arrival of the last piece of audio that a text needed to the text at the client; the silence that ends an utterance is
audio like other), the processor's time of the server, and the share of it that encoder and search take with nothing around them.
Past the limit the service refuses: clients that were refused are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import numpy as np

from benchmarks.serve.talk import RATE, Heard, Server, clips, quantile, talk
from voxkit.eval.table import format_table
from voxkit.runtime.streaming import StreamingRecognizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", help="a streaming artifact")
    parser.add_argument("--audio", required=True, metavar="FOLDER", help="speech")
    parser.add_argument("--sessions", type=int, nargs="+", default=[8, 16, 24])
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech of each client (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime (default 1)")
    parser.add_argument("--max-sessions", type=int, default=1000)
    arguments = parser.parse_args()
    recordings = clips(arguments.audio, max(arguments.sessions), arguments.seconds)
    alone = graph_cost(arguments.artifact, recordings[0], arguments.threads)
    print(f"encoder and search alone, 16 sessions together: {1000 * alone:.1f} core ms a second of audio, {1 / alone:.0f} sessions a core")
    rows = []
    for count in arguments.sessions:
        server = Server(arguments.artifact, "--threads", str(arguments.threads), "--max-sessions", str(arguments.max_sessions))
        try:
            asyncio.run(talk(server.port, recordings[0][:RATE], speed=0))  # warm
            before = server.processor()
            found = asyncio.run(_all(server.port, recordings[:count]))
            rows.append(_row(count, found, server.processor() - before, alone, arguments.seconds, server.megabytes()))
        finally:
            server.stop()
        print(format_table(rows, _HEAD), flush=True)


_HEAD = ["sessions", "refused", "finals", "p50 ms", "p95 ms", "max ms", "core ms/s", "of the graph's", "MB"]


def _row(asked: int, found: list[Heard], used: float, alone: float, seconds: float, memory: float) -> dict[str, Any]:
    """`core ms/s`: what a second of a session costs; `of the graph's`: the share of it that the graph alone takes."""
    heard = [one for one in found if one.code == 1000]
    waits = [1000 * wait for one in heard for wait in one.waits]
    refused = sum(one.code == 4429 for one in found)
    assert len(heard) + refused == asked, [one.code for one in found]
    cost = used / max(1e-9, len(heard) * seconds)
    figures = [asked, refused, sum(len(one.texts) for one in heard), *(f"{quantile(waits, q):.0f}" for q in (0.5, 0.95, 1.0)),
               f"{1000 * cost:.1f}", f"{alone / cost:.0%}", f"{memory:.0f}"]
    return dict(zip(_HEAD, figures))


async def _all(port: int, recordings: list[np.ndarray]) -> list[Heard]:
    """Clients that begin within two seconds, so that their pieces do not come all at once."""
    delays = np.random.default_rng(0).uniform(0, 2, len(recordings))
    return list(await asyncio.gather(*(talk(port, audio, delay=float(delay)) for audio, delay in zip(recordings, delays))))


def graph_cost(artifact: str, audio: np.ndarray, threads: int, together: int = 16) -> float:
    """Seconds of a core that a second of audio takes through features, encoder and search of so many sessions, nothing around them."""
    recognizer = StreamingRecognizer(artifact, threads=threads)
    sessions = [recognizer.session(endpointing=None) for _ in range(together)]
    seconds = 0.0
    piece = int(0.32 * RATE)
    began = time.process_time()
    for first in range(0, len(audio), piece):
        for session in sessions:
            session.feed(audio[first:first + piece])
        recognizer.step(sessions)
        seconds += together * len(audio[first:first + piece]) / RATE
    return (time.process_time() - began) / seconds


if __name__ == "__main__":
    main()
