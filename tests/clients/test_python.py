"""What only the Python client has, and the parts that all have: what is kept, when to come back, how samples travel."""

import asyncio
import itertools
import random
import sys
import types

import numpy as np
import pytest

from tests.clients.fake import FakeServer, Plan, ramp
from voxkit.client import AsyncStream, ClientError, Configured, Finished, ListenOptions, Reconnecting, Result, Retry, Stream
from voxkit.client.backlog import CLOSE, FINALIZE, Backlog
from voxkit.client.files import recognize
from voxkit.client.messages import parse
from voxkit.client.samples import as_bytes


def drained(backlog):
    """Everything that is to be sent now."""
    return list(itertools.takewhile(lambda item: item is not None, iter(backlog.next, ...)))


def test_what_is_kept_against_a_plain_list():
    """Random audio, commands, finals and broken connections: what was answered and what is sent again are together what was said."""
    rng = random.Random(3)
    for _ in range(50):
        backlog, said, answered, marks, sent_marks = Backlog(100, 2, keep=1e6), bytearray(), 0, [], 0
        wire, base = bytearray(), 0  # what this connection got, and where it began
        for _ in range(200):
            action = rng.randrange(6)
            if action <= 1:
                audio = rng.randbytes(2 * rng.randrange(30))
                backlog.append(audio)
                said += audio
            elif action == 2:
                backlog.finalize()
                marks.append(len(said) // 2)
            elif action == 3:
                for item in drained(backlog):
                    if item == FINALIZE:
                        assert base + len(wire) // 2 >= marks[sent_marks] or base >= marks[sent_marks]
                        sent_marks += 1
                    else:
                        wire += item
            elif action == 4 and wire:  # a final of some of what was sent
                by_mark = sent_marks > 0 and rng.random() < 0.5
                until = max(answered, marks[0]) if by_mark else rng.randint(answered, base + len(wire) // 2)
                backlog.commit(until / 100, from_finalize=by_mark)
                answered = max(answered, until)
                if by_mark:
                    marks.pop(0)
                    sent_marks -= 1
            elif action == 5:
                backlog.rewind()
                wire, base, sent_marks = bytearray(), answered, 0
                assert backlog.offset == answered / 100
            assert bytes(wire) == bytes(said[2 * base:2 * base + len(wire)])
        backlog.rewind()
        backlog.close()
        rest = drained(backlog)
        assert b"".join(item for item in rest if isinstance(item, bytes)) == bytes(said[2 * answered:])
        assert [item for item in rest if isinstance(item, str)] == [FINALIZE] * len(marks) + [CLOSE]


def test_too_much_to_keep_is_lost_and_said_to_be():
    backlog = Backlog(100, 2, keep=1.0)
    backlog.append(bytes(2 * 300))
    assert backlog.lost == 0  # none of it was sent
    drained(backlog)
    for _ in range(5):
        backlog.append(bytes(2 * 10))
    assert backlog.lost == 250 and backlog.offset == 2.5
    with FakeServer(Plan(break_after=2.0), utterance=1e9) as server:
        options = ListenOptions(server.url, keep=1.0, endpointing=None, retry=Retry(first=0.01))
        with Stream(options) as stream:
            stream.send(ramp(1.9))
            next(event for event in stream if isinstance(event, Result) and event.duration == 1.9)
            stream.send(ramp(2.0)[30_400:])
            events = list(stream.finish())
    (again,) = [event for event in events if isinstance(event, Reconnecting)]
    assert again.lost == 1.0 and again.offset == 1.0
    assert [word.word for event in events if isinstance(event, Result) for word in event.words] == [str(n) for n in range(10, 20)]


def test_pieces_have_a_length_that_servers_take():
    backlog = Backlog(16_000, 2, keep=60)
    backlog.append(bytes(100))
    assert backlog.next() is None  # 3 ms: more may come
    backlog.append(bytes(2 * 16_000 * 3))
    sizes = [len(item) / 32_000 for item in drained(backlog)]
    assert max(sizes) == 0.5 and min(sizes[:-1]) == 0.5
    backlog.append(bytes(2))
    assert backlog.next() is None
    backlog.finalize()
    assert [len(item) for item in drained(backlog)] == [100 + 2, len(FINALIZE)]


def test_when_to_come_back():
    retry, broken = Retry(first=0.5, longest=10), ClientError(1006, "CLOSED", "")
    assert [retry.wait(broken, n, 0.999) for n in range(1, 8)] == pytest.approx([0.5, 1, 2, 4, 8, 10, 10], rel=1e-2)
    assert retry.wait(broken, 3, 0.0) == 1.0  # half of it is chance
    assert retry.wait(ClientError(4503, "STOPPING", ""), 1, 0.5) == 0.0 < retry.wait(ClientError(4503, "STOPPING", ""), 2, 0.5)
    assert retry.wait(ClientError(4429, "BUSY", "", 3.0), 1, 0.0) == 3.0


@pytest.mark.parametrize("encoding", ["linear16", "linear32"])
def test_samples_travel(encoding):
    options = ListenOptions(encoding=encoding, channels=2)
    audio = np.array([[0.5, -0.5], [1.5, -1.5]], np.float32)
    got = np.frombuffer(as_bytes(audio, options), "<i2" if encoding == "linear16" else "<f4")
    assert got.tolist() == ([16384, -16384, 32767, -32768] if encoding == "linear16" else [0.5, -0.5, 1.5, -1.5])
    whole = np.array([[16384, -16384]], np.int16)
    assert np.frombuffer(as_bytes(whole, options), "<i2" if encoding == "linear16" else "<f4").tolist() in ([16384, -16384], [0.5, -0.5])
    for wrong in (np.zeros(4, np.float32), np.zeros((2, 3)), np.zeros((2, 2), np.int32), b"123"):
        with pytest.raises(ValueError, match="samples"):
            as_bytes(wrong, options)


@pytest.mark.parametrize("wrong", [{"url": "localhost:8000"}, {"sample_rate": 22051}, {"channels": 3}, {"encoding": "opus"},
                                   {"phrases": "one"}])
def test_options_that_no_server_takes(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if "sample_rate" not in wrong else "22051"):
        ListenOptions(**wrong)


def test_addresses():
    for url, expected in (("http://a:1/x/", "ws://a:1/x/v1/listen?"), ("https://a", "wss://a/v1/listen?"),
                          ("wss://a/v1/listen?tag=t", "wss://a/v1/listen?tag=t&")):
        assert ListenOptions(url).address(1.5).startswith(expected) and "offset=1.500000" in ListenOptions(url).address(1.5)
    assert ListenOptions("wss://a/x/v1/listen").base() == "https://a/x"


def test_what_is_no_message_of_the_server():
    for message in ("", "{}", "[]", '{"type": "Results"}', '{"type": "Begin"}', b"\xff"):
        with pytest.raises(ClientError, match="no message of voxkit serve"):
            parse(message)


def test_asyncio():
    """Sending waits where the server does not read; cancelling ends everything at once, and whoever sends is told."""

    async def talk(url):
        async with AsyncStream(ListenOptions(url, ahead=0.2)) as stream:
            sender = asyncio.create_task(stream.send(ramp(1200.0)))  # more than all buffers between here and there
            done, _ = await asyncio.wait([sender], timeout=0.3)
            assert not done
            await stream.cancel()
            await asyncio.wait_for(sender, 5)
            assert not [event async for event in stream if isinstance(event, Finished)]
            with pytest.raises(ValueError, match="over"):
                await stream.send(ramp(0.1))

    with FakeServer(Plan(slow=5.0)) as server:
        asyncio.run(talk(server.url))


def test_a_change_made_while_it_reconnects_is_not_lost():
    """The address of the new connection was made before it."""

    async def talk(server):
        async with AsyncStream(ListenOptions(server.url, retry=Retry(first=0.01))) as stream:
            await stream.send(ramp(0.2))
            while len(server.seen) < 2:
                await asyncio.sleep(0.01)
            await stream.configure(phrases=["new"])
            await stream.finish()
            return [event async for event in stream]

    with FakeServer(Plan(break_after=0.1), Plan(late=0.3), utterance=1e9) as server:
        events = asyncio.run(talk(server))
    assert [event.problem for event in events if isinstance(event, Configured)] == [""]
    assert [seen.query.get("keyterm") for seen in server.seen] == [None, None]
    assert [command.get("keyterms") for command in server.seen[1].commands] == [["new"], None]


def test_errors_come_from_every_call():
    with FakeServer(Plan(refuse=(4401, "UNAUTHORIZED", None))) as server:
        with pytest.raises(ClientError, match="UNAUTHORIZED") as refused, Stream(ListenOptions(server.url)):
            raise AssertionError("it was let in")
        assert refused.value.code == 4401
    with FakeServer(Plan(fail_after=0.1)) as server, Stream(ListenOptions(server.url)) as stream:
        stream.send(ramp(0.2))
        with pytest.raises(ClientError, match="AS_PLANNED"):
            list(stream)
        with pytest.raises(ClientError, match="AS_PLANNED"):
            stream.send(ramp(0.2))


def test_a_request_to_nobody(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(b"")
    with pytest.raises(ClientError, match="cannot be reached"):
        recognize(path, ListenOptions("ws://127.0.0.1:9"))


def test_the_microphone(monkeypatch):
    """A sounddevice that plays a ramp; and machines without."""
    from voxkit.client.microphone import microphone

    class Device:
        def __init__(self, rate, size, device, channels, kind, callback):
            assert (rate, device, channels, kind) == (16_000, "headset", 1, "int16")
            self.size, self.callback = size, callback

        def __enter__(self):
            for i in range(3):
                self.callback(ramp(1.0)[i * self.size:(i + 1) * self.size].tobytes(), self.size, None, None)

        def __exit__(self, *exception):
            return None

    async def hear(count):
        pieces = microphone(16_000, "headset")
        return [await anext(pieces) for _ in range(count)]

    fake = types.SimpleNamespace(RawInputStream=Device, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert np.array_equal(np.concatenate(asyncio.run(hear(3))), ramp(1.0)[:3 * 640])

    def broken(*arguments, **options):
        raise RuntimeError("no such device")

    fake.RawInputStream = broken
    with pytest.raises(OSError, match="no microphone headset: no such device"):
        asyncio.run(hear(1))
