"""Queues before a model: who shares a batch, who waits for whom, and what is not computed for nobody."""

import asyncio
import threading

import pytest

from voxkit.serve.batcher import Batcher, BatchingConfig, length_class
from voxkit.serve.errors import RequestError
from voxkit.serve.stopping import Stopped


def _batched(work, requests, **options):
    """Submit (key, item) pairs at once; results or errors, and the batcher."""
    async def go():
        batcher = Batcher(work, BatchingConfig(**options))
        await batcher.start()
        found = await asyncio.gather(*(batcher.submit(k, i) for k, i in requests), return_exceptions=True)
        await batcher.stop()
        return found, batcher

    return asyncio.run(go())


def test_requests_share_batches_of_their_kind():
    seen = []

    def work(key, items, unwanted):
        seen.append((key, list(items)))
        return [(key, i) for i in items]

    requests = [("a" if i % 3 else "b", i) for i in range(12)]
    found, batcher = _batched(work, requests, max_batch=5, max_wait=0.05)
    assert found == requests and batcher.requests == 12
    assert batcher.batches < 6 and max(len(items) for _, items in seen) <= 5
    assert all(("a" if i % 3 else "b") == key for key, items in seen for i in items)


def test_one_bad_request_fails_alone():
    def work(key, items, unwanted):
        if 2 in items:
            raise ValueError("two is bad")
        if 3 in items:
            raise KeyError("bug")
        return [i * 10 for i in items]

    found, _ = _batched(work, [("a", i) for i in range(5)], max_batch=5, max_wait=0.05)
    assert [found[i] for i in (0, 1, 4)] == [0, 10, 40]
    assert (found[2].status, found[2].message) == (422, "two is bad") and found[3].status == 500 and "KeyError" in found[3].message


def test_full_queues_refuse():
    release = threading.Event()

    def work(key, items, unwanted):
        release.wait(5)
        return list(items)

    async def go():
        batcher = Batcher(work, BatchingConfig(max_batch=1, max_wait=0.0, max_waiting=4, max_waiting_seconds=12.0))
        await batcher.start()
        tasks = [asyncio.create_task(batcher.submit("a", 0, 5.0))]
        await asyncio.sleep(0.05)  # that one is computed, and waits no longer
        tasks += [asyncio.create_task(batcher.submit("a", i, 5.0)) for i in (1, 2)]
        await asyncio.sleep(0.05)
        with pytest.raises(RequestError, match="10 s of audio are waiting already"):
            await batcher.submit("a", 4, 5.0)
        tasks += [asyncio.create_task(batcher.submit("b", i, 0.1)) for i in range(3)]
        await asyncio.sleep(0.05)
        release.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.stop()
        return [getattr(x, "status", x) for x in found]

    assert asyncio.run(go()) == [0, 1, 2, 0, 1, 503]


def test_those_held_back_for_another_batch_count_as_waiting():
    gate = threading.Semaphore(0)

    def work(key, items, unwanted):
        gate.acquire(timeout=5)
        return list(items)

    async def go():
        async def submit(keys):
            tasks = [asyncio.create_task(batcher.submit(key, key)) for key in keys]
            for _ in range(50):
                await asyncio.sleep(0)
            return tasks

        batcher = Batcher(work, BatchingConfig(max_batch=2, max_wait=0.0, max_waiting=3))
        await batcher.start()
        first, second = await submit("a"), await submit("bcc")
        gate.release()
        await first[0]
        late = await submit("ccc")  # b is computed, two c are held back: one more may wait
        for _ in range(9):
            gate.release()
        found = await asyncio.gather(*second, *late, return_exceptions=True)
        await batcher.stop()
        return [getattr(x, "status", x) for x in found]

    assert asyncio.run(go()) == ["b", "c", "c", "c", 503, 503]


def test_lengths_of_one_class_differ_by_two_at_most():
    assert [length_class(s) for s in (0.0, 0.3, 1.0, 1.1, 2.0, 2.1, 4.0, 59.0, 64.0)] == [0, 0, 0, 1, 1, 2, 2, 6, 6]


def test_the_short_do_not_wait_for_the_long():
    """While a file of a minute is computed, what is short is answered; and it shares no batch with longer ones of its lane."""
    long, seen = threading.Event(), []

    def work(key, items, unwanted):
        seen.append(items)
        if 59 in items:
            assert long.wait(5)
        return items

    async def go():
        batcher = Batcher(work, BatchingConfig(max_wait=0.01))
        await batcher.start()
        slow = [asyncio.create_task(batcher.submit("a", 59, 59.0)) for _ in range(3)]
        quick = await asyncio.gather(*(batcher.submit("a", s, float(s)) for s in (2, 8, 2, 7)))
        waited = [task.done() for task in slow]
        long.set()
        await asyncio.gather(*slow)
        await batcher.stop()
        return quick, waited

    assert asyncio.run(go()) == ([2, 8, 2, 7], [False] * 3)
    assert [2, 2] in seen and [8, 7] in seen and [59, 59] in seen and [59] in seen  # 120 s of audio at the most


@pytest.mark.parametrize("late", [1, 2])
def test_what_nobody_waits_for_is_not_computed(late):
    """Those who leave while they wait are never begun; a batch that runs ends once the last of it has left."""
    began, seen = threading.Event(), []

    def work(key, items, unwanted):
        seen.append(items)
        began.set()
        if items[0] == "last":
            return items
        assert unwanted.wait(5)
        raise Stopped

    async def go():
        batcher = Batcher(work, BatchingConfig(max_batch=2, max_wait=0.0))
        await batcher.start()
        tasks = [asyncio.create_task(batcher.submit("a", i)) for i in range(2 + late)]
        await asyncio.get_running_loop().run_in_executor(None, began.wait, 5)
        for task in tasks[2:]:
            task.cancel()
        tasks[0].cancel()
        await asyncio.sleep(0.05)
        assert not batcher.ended  # one of the batch still waits
        tasks[1].cancel()
        found = await batcher.submit("a", "last")
        await batcher.stop()
        return found, batcher.ended, batcher.waiting

    assert asyncio.run(go()) == ("last", 2, 0)
    assert seen == [[0, 1], ["last"]]


def test_a_batcher_that_stops_lets_go_of_who_waits():
    def work(key, items, unwanted):
        assert unwanted.wait(5)
        raise Stopped

    async def go():
        batcher = Batcher(work, BatchingConfig(max_batch=1))
        await batcher.start()
        tasks = [asyncio.create_task(batcher.submit("a", i)) for i in range(3)]
        await asyncio.sleep(0.05)
        await batcher.stop()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    assert all(isinstance(error, asyncio.CancelledError) for error in asyncio.run(go()))


def test_options_that_cannot_be():
    config = BatchingConfig(max_batch=0, max_wait=float("nan"), max_waiting_seconds=0, short=float("nan"))
    assert [p.split(":")[0] for p in config.problems()] == ["max_batch", "max_wait", "max_waiting_seconds", "short"]
    assert not BatchingConfig().problems()
