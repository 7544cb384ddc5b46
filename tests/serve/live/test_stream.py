"""A stream inside the server: what waits, what there is to say, and what is too much."""

import asyncio
from dataclasses import replace

import pytest

from voxkit.hypothesis import Hypothesis
from voxkit.serve.live.errors import BUSY, TIMEOUT, StreamError
from voxkit.serve.live.listen import Wire
from voxkit.serve.live.options import StreamOptions
from voxkit.serve.live.stream import SLICE, End, Ended, Finalize, Heard, Started, Stream

OPTIONS = StreamOptions(interim=True)


def stream(options=OPTIONS):
    woken, left = [], []
    made = Stream(options, lambda: woken.append(1), left.append)
    return made, woken, left


def heard(text, final=False):
    return Heard(0.0, 1.0, Hypothesis(text), final)


async def told(one):
    return [event async for event in one.events()]


def test_slices_hold_their_order():
    async def run():
        one, woken, _ = stream()
        for _ in range(8):
            one.audio(b"\1\0" * 1600)  # 0.1 s
        one.finalize()
        one.audio(b"\2\0" * 1600)
        one.end()
        one.audio(b"\3\0" * 1600)  # behind the end
        assert woken and one.seconds == pytest.approx(0.9)
        works = []
        while one.busy:
            works.append(one.take())
        assert [len(w.data) for w in works] == [int(SLICE * 32000), 9600, 3200]
        assert [w.control for w in works] == [None, Finalize(), End()]
    asyncio.run(run())


def test_interim_results_that_were_not_read_are_replaced_finals_are_not():
    async def run():
        one, _, _ = stream()
        events = [Started(0.0), heard("a"), heard("a b"), heard("a b c", True), heard("d", True), Started(2.0), heard("e"), Ended()]
        for event in events:
            one.say(event)
        assert await told(one) == [events[0], *events[2:]]
    asyncio.run(run())


def test_a_client_that_reads_nothing_has_a_bound():
    async def run():
        one, _, left = stream()
        for i in range(1000):
            one.say(heard(str(i), True))
        assert left == [one] and one.closed
        with pytest.raises(StreamError, match="were not read") as error:
            await told(one)
        assert error.value.code == TIMEOUT
        many, _, _ = stream()
        for i in range(100_000):
            many.say(heard(str(i)))
        many.say(Ended())
        assert len(await told(many)) == 2
    asyncio.run(run())


@pytest.mark.parametrize("piece, count", [(b"\0" * 32000, 5), (b"\0\0", 600)])
def test_one_that_sends_much_waits(piece, count):
    """By seconds of audio, and by messages however short."""
    async def run():
        one, _, _ = stream()
        for _ in range(count):
            one.audio(piece)
        waiting = asyncio.create_task(one.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        while not waiting.done() and one.busy:
            one.take()
            await asyncio.sleep(0)
        await waiting
    asyncio.run(run())


def test_an_error_comes_behind_what_was_said():
    async def run():
        one, _, left = stream()
        one.say(heard("a", True))
        one.fail(StreamError(BUSY, "enough"))
        one.fail(StreamError(TIMEOUT, "later"))
        one.say(heard("b", True))
        found = []
        with pytest.raises(StreamError, match="enough"):
            async for event in one.events():
                found.append(event)
        assert found == [heard("a", True)] and left == [one]
        await one.room()  # whoever waits to send goes on
    asyncio.run(run())


def test_an_utterance_is_open_until_its_final():
    one, _, _ = asyncio.run(_made())
    assert not one.open
    one.say(Started(0.0))
    assert one.open
    one.say(heard("a"))
    assert one.open
    one.say(heard("a", True))
    assert not one.open
    talk, _, _ = asyncio.run(_made(replace(OPTIONS, silence=None)))
    talk.audio(b"\0\0")
    assert talk.open  # where nothing but the client ends it


async def _made(options=OPTIONS):
    return stream(options)


def test_a_socket_that_does_not_take_a_message_is_given_up():
    class Stuck:
        async def send_text(self, text):
            await asyncio.Event().wait()

        async def close(self, code, reason=""):
            await asyncio.Event().wait()

    async def run():
        wire = Wire(Stuck(), 0.05)
        with pytest.raises(StreamError, match="nothing was read") as error:
            await wire.send({"type": "Results"})
        assert error.value.code == TIMEOUT
        wire_last = asyncio.create_task(wire.last({"type": "Error"}, error.value))
        await asyncio.wait_for(wire_last, 10)
    asyncio.run(run())
