"""The Python client with the command line that all cores of tools/clients have; events as lines of JSON.

    python python.py URL FILE.wav [--speed S] [--endpointing MS] [--phrase P]... [--boost B] [--token T] [--press SECONDS]
                     [--cancel-after SECONDS] [--configure PHRASE] [--attempts N] [--first SECONDS]
"""

import argparse
import json
import sys
import time
import wave

from voxkit.cli.client import _plain
from voxkit.client import ClientError, ListenOptions, Retry, Stream


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("audio")
    parser.add_argument("--speed", type=float, default=0)
    parser.add_argument("--endpointing", type=float, default=500)
    parser.add_argument("--phrase", action="append", default=[])
    parser.add_argument("--boost", type=float)
    parser.add_argument("--token")
    parser.add_argument("--press", type=float)
    parser.add_argument("--cancel-after", type=float)
    parser.add_argument("--configure")
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--first", type=float, default=0.5)
    args = parser.parse_args()
    with wave.open(args.audio) as file:
        rate, channels, audio = file.getframerate(), file.getnchannels(), file.readframes(file.getnframes())
    options = ListenOptions(args.url, args.token, rate, channels, endpointing=args.endpointing or None, phrases=args.phrase,
                            boost=args.boost, retry=Retry(args.attempts, args.first))
    try:
        _stream(args, options, audio, rate * 2 * channels)
    except ClientError as error:
        say({"event": "Error", "code": error.code, "name": error.name, "message": error.message})
        return 1
    return 0


def _stream(args: argparse.Namespace, options: ListenOptions, audio: bytes, per_second: int) -> None:
    size = per_second // 10
    with Stream(options) as stream:
        begun = time.monotonic()
        for i, first in enumerate(range(0, len(audio), size), 1):
            if args.speed:
                time.sleep(max(0, begun + 0.1 * i / args.speed - time.monotonic()))
            try:
                stream.send(audio[first:first + size])
            except ClientError:
                for event in stream.pending():  # what came before it
                    say(_plain(event))
                raise
            if args.press and i % round(10 * args.press) == 0:
                stream.finalize()
            if args.configure is not None and i == 1:
                stream.configure(phrases=[args.configure])
            for event in stream.pending():
                say(_plain(event))
            if args.cancel_after is not None and i >= 10 * args.cancel_after:
                stream.cancel()
                for event in stream:
                    say(_plain(event))
                say({"event": "Cancelled"})
                return
        for event in stream.finish():
            say(_plain(event))


def say(event: dict) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main())
