"""Two replicas, one killed under load: `python -m benchmarks.serve.replicas ARTIFACT --audio FOLDER`.

Clients speak to either; one process gets SIGKILL in the middle, and its clients go on at the other with `offset`. The utterances that all
hear must be those of an undisturbed server: nothing lost, nothing twice. (Where voice activity notices speech a frame sooner or later
behind the gap, a model may hear other words; how many utterances have the same text is said.)
"""

from __future__ import annotations

import argparse
import asyncio
import json

import numpy as np

from benchmarks.serve.talk import Heard, Server, clips, talk

_SHIFT = 0.2  # seconds by which the ends of an utterance may differ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--audio", required=True, metavar="FOLDER", help="speech")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--speed", type=float, default=1.0, help="times real time (default 1)")
    arguments = parser.parse_args()
    report = kill_one(arguments.artifact, clips(arguments.audio, arguments.clients, arguments.seconds), arguments.speed)
    print(json.dumps(report, indent=1))
    return bool(report["problems"])


def kill_one(artifact: str, recordings: list[np.ndarray], speed: float) -> dict:
    """Run it → what happened; `problems` names recordings that were heard otherwise than undisturbed."""
    servers = [Server(artifact) for _ in range(2)]
    try:
        return asyncio.run(_run(servers, recordings, speed))
    finally:
        for server in servers:
            server.stop(kill=True)


async def _run(servers: list[Server], recordings: list[np.ndarray], speed: float) -> dict:
    ports = [server.port for server in servers]
    expected = [await talk(ports[0], audio, speed=0) for audio in recordings]
    resumed: list[float] = []

    async def client(number: int) -> Heard:
        heard, which = Heard(), number % 2
        while heard.code != 1000:
            offset = heard.end
            try:
                await talk(ports[which], recordings[number], speed=speed, offset=offset, heard=heard)
            except OSError:  # nobody there
                heard.code = None
            if heard.code != 1000:
                resumed.append(heard.end)
                which = 1 - which
        return heard

    async def kill() -> None:
        await asyncio.sleep(len(recordings[0]) / 16000 / speed / 2)
        servers[1].stop(kill=True)

    found, _ = await asyncio.gather(asyncio.gather(*(client(i) for i in range(len(recordings)))), kill())
    problems = []
    for i, (heard, whole) in enumerate(zip(found, expected)):
        spans, undisturbed = heard.spans, whole.spans
        if len(spans) != len(undisturbed) or np.abs(np.subtract(spans, undisturbed)).max(initial=0) > _SHIFT:
            problems.append(f"recording {i}: utterances at {spans} and not {undisturbed}")
    texts = [text for heard in found for text in heard.texts]
    same = sum(a == b for heard, whole in zip(found, expected) for a, b in zip(heard.texts, whole.texts))
    return {"problems": problems, "clients": len(found), "resumed at": [round(at, 2) for at in resumed], "utterances": len(texts),
            "of the same text": same}


if __name__ == "__main__":
    raise SystemExit(main())
