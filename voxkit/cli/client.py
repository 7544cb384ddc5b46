"""`voxkit client`: files or the microphone to a `voxkit serve`: texts while they are spoken, and the final ones."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxkit.client.messages import Event
    from voxkit.client.options import ListenOptions

HELP = "stream files or the microphone to a server"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("client", help=HELP, description=__doc__)
    parser.add_argument("audio", nargs="*", help="files (wav, flac, mp3, ogg, opus ...)")
    parser.add_argument("--url", default="ws://127.0.0.1:8000", help="of the server (default ws://127.0.0.1:8000)")
    parser.add_argument("--token", help="by default that of the environment variable VOXKIT_TOKEN")
    parser.add_argument("--microphone", action="store_true", help="speak; Ctrl-C ends it")
    parser.add_argument("--device", help="of the microphone: a number or a part of its name")
    parser.add_argument("--push-to-talk", action="store_true", help="with --microphone: Enter begins and ends what is said")
    parser.add_argument("--speed", type=float, default=1.0, help="of files: 1 as they would be spoken (default), 2 twice as fast, "
                                                                 "0 as fast as the server takes them")
    parser.add_argument("--whole", action="store_true", help="each file as one request instead of a stream")
    parser.add_argument("--endpointing", type=float, default=500, metavar="MS",
                        help="silence that ends an utterance (default 500); 0: one utterance")
    parser.add_argument("--phrases", metavar="FILE", help="a phrase in each line, to favor")
    parser.add_argument("--boost", type=float, help="nats per token by which phrases are favored; by default as the server does")
    parser.add_argument("--json", action="store_true", help="every event as a line of JSON")


def run(args: argparse.Namespace) -> int:
    from voxkit.client.errors import ClientError

    if bool(args.audio) == args.microphone:
        raise ValueError("give audio files, or --microphone")
    if args.speed < 0:
        raise ValueError(f"--speed {args.speed:g}: a number from 0")
    options = _options(args)
    if args.microphone:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_speak(args, options))
        return 0
    failed = 0
    for path in args.audio:
        try:
            _send(args, path, options)
        except ClientError:
            raise  # the next file would meet the same server
        except (ValueError, OSError) as error:
            failed += 1
            print(error if path in str(error) else f"{path}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _options(args: argparse.Namespace) -> ListenOptions:
    from voxkit.client.options import ListenOptions
    from voxkit.files import read_lines

    phrases = [line.split("\t")[0].strip() for line in read_lines(args.phrases)] if args.phrases else []
    return ListenOptions(args.url, args.token, endpointing=args.endpointing or None, phrases=[p for p in phrases if p], boost=args.boost)


def _send(args: argparse.Namespace, path: str, options: ListenOptions) -> None:
    from voxkit.client.files import recognize, transcribe

    prefix = f"{path}\t" if len(args.audio) > 1 else ""
    if args.whole:
        answer = recognize(path, options)
        print(json.dumps({"file": path, **answer}) if args.json else prefix + answer["text"])
        return
    screen = _Screen(args.json, prefix, {"file": path})
    transcribe(path, options, speed=args.speed or None, on_event=screen.show)


async def _speak(args: argparse.Namespace, options: ListenOptions) -> None:
    """The microphone, until Ctrl-C."""
    from voxkit.client.asynchronous import AsyncStream
    from voxkit.client.microphone import microphone

    device = int(args.device) if args.device and args.device.isdigit() else args.device
    talking = [not args.push_to_talk]
    screen = _Screen(args.json, "", {})
    async with AsyncStream(dataclasses.replace(options, endpointing=None) if args.push_to_talk else options) as stream:

        async def send() -> None:
            async for piece in microphone(options.sample_rate, device):
                if talking[0]:
                    await stream.send(piece)

        async def show() -> None:
            async for event in stream:
                screen.show(event)

        async def press() -> None:
            while True:
                print("Enter, speak, Enter" if not talking[0] else "...", file=sys.stderr)
                if not await asyncio.to_thread(sys.stdin.readline):
                    return
                talking[0] = not talking[0]
                if not talking[0]:
                    await stream.finalize()

        tasks = [asyncio.create_task(work()) for work in (send, show, *([press] if args.push_to_talk else []))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()


class _Screen:
    """Prints events: finals as lines; what may still change in the last line of a terminal."""

    def __init__(self, as_json: bool, prefix: str, fields: dict[str, str]) -> None:
        self.as_json, self.prefix, self.fields, self.live = as_json, prefix, fields, sys.stderr.isatty()

    def show(self, event: Event) -> None:
        from voxkit.client.messages import Reconnecting, Result

        if self.as_json:
            print(json.dumps({**self.fields, **_plain(event)}), flush=True)
        elif isinstance(event, Result) and (event.text or self.live):
            if self.live:
                print("\r\033[K" + ("" if event.final else f"… {event.text[-100:]}"), end="", file=sys.stderr, flush=True)
            if event.final and event.text:
                print(self.prefix + event.text, flush=True)
        elif isinstance(event, Reconnecting):
            lost = f"; {event.lost:.1f} s of audio are lost" if event.lost else ""
            print(f"{event.error}; again in {event.wait:.1f} s from {event.offset:.2f} s on{lost}", file=sys.stderr)


def _plain(event: Event) -> dict[str, Any]:
    """An event as JSON, by its own field names."""
    from voxkit.client.messages import Reconnecting

    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event) if field.name != "raw"}
    if isinstance(event, Reconnecting):
        fields["error"] = {"code": event.error.code, "name": event.error.name, "message": event.error.message}
    if "words" in fields:
        fields["words"] = [dataclasses.asdict(word) for word in fields["words"]]
    return {"event": type(event).__name__, **fields}
