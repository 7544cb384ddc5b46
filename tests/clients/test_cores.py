"""What every client does, each of the four over the same server that misbehaves on demand."""

import itertools

import numpy as np
import pytest

from tests.clients.conftest import ended, write_wav
from tests.clients.fake import FakeServer, Plan, ramp


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """5.3 s in which each tenth of a second holds its number."""
    return write_wav(tmp_path_factory.mktemp("ramp") / "ramp.wav", ramp(5.3))


def whole(seconds=5.3):
    return [str(n) for n in range(round(seconds * 10))]


def check(ran, words):
    """Every word once, in order, at its own time; an utterance's interims begin where it does."""
    assert ran.status == 0 and ran.events[-1]["event"] == "Finished"
    assert ran.words == words
    for word in (word for final in ran.finals for word in final["words"]):
        assert word["start"] == pytest.approx(int(word["word"]) / 10, abs=1e-3) and word["confidence"] == 0.5
        assert word["end"] == pytest.approx(word["start"] + 0.1, abs=1e-3)
    ends = [final["start"] + final["duration"] for final in ran.finals]
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(ends))


def test_partials_finals_and_words(client, audio):
    with FakeServer() as server:
        ran = client.run(server.url, audio, "--phrase", "heal me", "--phrase", "Übergröße & +1?", "--boost", 2.5, "--token", "s3cret")
    check(ran, whole())
    assert ran.events[0]["event"] == "Connected" and ran.of("SpeechStarted")[0]["timestamp"] == 0
    partials = [event for event in ran.of("Result") if not event["final"]]
    assert partials and all(p["words"] == [] and p["start"] == int(p["start"]) for p in partials)
    assert [(f["start"], f["speech_final"], f["from_finalize"], f["confidence"]) for f in ran.finals] == [
        (n, n < 5, False, 0.75) for n in range(6)]
    (seen,) = server.seen
    assert seen.query["keyterm"] == ["heal me", "Übergröße & +1?"] and seen.query["keyterm_boost"] == ["2.5"]
    assert {name: seen.query[name] for name in ("encoding", "sample_rate", "channels", "interim_results", "endpointing")} == {
        "encoding": ["linear16"], "sample_rate": ["16000"], "channels": ["1"], "interim_results": ["true"], "endpointing": ["500"]}
    assert seen.authorization == "Bearer s3cret" or seen.subprotocols == "token, s3cret"
    assert seen.commands[-1]["type"] == "CloseStream" and seen.seconds == 5.3 and max(seen.messages) <= 32_000


@pytest.mark.parametrize("after", [0.1, 1.9])
def test_a_broken_connection_loses_nothing_and_repeats_nothing(client, audio, after):
    with FakeServer(Plan(break_after=after), Plan(silent=True), Plan(break_after=1.2)) as server:
        ran = client.run(server.url, audio, "--first", 0.05)
    check(ran, whole())
    offsets = [float(seen.query["offset"][0]) for seen in server.seen]
    # What was said just before the connection broke may have been lost with it.
    assert offsets[0] == 0 and offsets[1] == offsets[2] <= after + 0.5 and offsets[1] <= offsets[3] <= offsets[1] + 1
    again = ran.of("Reconnecting")
    assert [event["offset"] for event in again] == offsets[1:] and all(event["lost"] == 0 for event in again)
    assert again[0]["error"]["code"] == 1006 and again[0]["error"]["message"]


def test_no_pause_and_an_end_that_breaks(client, audio):
    """With endpointing off everything is one utterance, which is sent anew as a whole."""
    with FakeServer(Plan(break_after=5.3)) as server:
        ran = client.run(server.url, audio, "--first", 0.05, "--endpointing", 0)
    check(ran, whole())
    assert [float(seen.query["offset"][0]) for seen in server.seen] == [0, 0] and server.seen[1].seconds == 5.3
    assert server.seen[1].query["endpointing"] == ["false"] and len(ran.finals) == 1


def test_a_server_that_drains(client, audio):
    """Its finals count, its Metadata ends nothing, and there is no pause before another is asked."""
    with FakeServer(Plan(drain_after=2.5)) as server:
        ran = client.run(server.url, audio)
    check(ran, whole())
    assert len(server.seen) == 2 and len(ran.of("Finished")) == 1
    (again,) = ran.of("Reconnecting")
    assert again["error"]["code"] == 4503 and again["wait"] == 0


def test_push_to_talk(client, audio):
    """A final for each release, also where the connection breaks between the question and the answer."""
    with FakeServer(Plan(deaf_to_finalize=True)) as server:
        ran = client.run(server.url, audio, "--press", 1.5, "--endpointing", 0, "--first", 0.05)
    check(ran, whole())
    asked = [final["from_finalize"] for final in ran.finals]
    assert asked == [True, True, True, False]
    assert [round(final["duration"], 3) for final in ran.finals] == [1.5, 1.5, 1.5, 0.8]
    assert [command["type"] for command in server.seen[1].commands] == ["Finalize"] * 3 + ["CloseStream"]


def test_what_waiting_does_not_mend_is_an_error(client, audio):
    with FakeServer(Plan(refuse=(4401, "SOMEHOW", None))) as server:
        ran = client.run(server.url, audio)
    assert ran.status == 1 and len(server.seen) == 1
    assert ran.events == [{"event": "Error", "code": 4401, "name": "SOMEHOW", "message": "as the test wants"}]


def test_an_error_in_the_middle(client, audio):
    with FakeServer(Plan(fail_after=2.2)) as server:
        ran = client.run(server.url, audio)
    assert ran.status == 1 and len(server.seen) == 1 and ran.words == whole(2)
    assert ran.events[-1] == {"event": "Error", "code": 4400, "name": "AS_PLANNED", "message": "as the test wants"}


def test_a_busy_server_is_asked_again_when_it_said(client, audio):
    with FakeServer(Plan(refuse=(4429, "BUSY", 0.2))) as server:
        ran = client.run(server.url, audio)
    check(ran, whole())
    (again,) = ran.of("Reconnecting")
    assert 0.2 <= again["wait"] <= 0.25 and again["error"]["name"] == "BUSY" and len(server.seen) == 2


def test_a_failure_is_tried_once_more(client, audio):
    with FakeServer(*[Plan(fail_after=0.1, failure=1011)] * 5) as server:
        ran = client.run(server.url, audio, "--first", 0.05)
    assert ran.status == 1 and ran.events[-1]["code"] == 1011 and len(server.seen) == 2


def test_it_gives_up(client, audio):
    with FakeServer(Plan(break_after=0.1), *[Plan(silent=True)] * 9) as server:
        ran = client.run(server.url, audio, "--attempts", 3, "--first", 0.01)
    assert ran.status == 1 and ran.events[-1]["code"] == 1006 and len(server.seen) == 4 and len(ran.of("Reconnecting")) == 3


def test_nobody_there(client, audio):
    """Not tried again: the address is wrong."""
    with FakeServer() as server:
        url = server.url
    ran = client.run(url, audio)
    assert ran.status == 1 and [event["event"] for event in ran.events] == ["Error"]
    assert ran.events[0]["code"] == 1006 and "cannot be reached" in ran.events[0]["message"]


def test_cancellation(client, audio):
    with FakeServer() as server:
        ran = client.run(server.url, audio, "--speed", 4, "--cancel-after", 1.5)
    assert ran.status == 0 and ran.events[-1] == {"event": "Cancelled"} and not ran.of("Finished")
    assert ran.words in ([], whole(1)) and server.seen[0].seconds <= 1.5  # a final may still be under way
    assert all(command["type"] != "CloseStream" for command in server.seen[0].commands)


def test_phrases_change_within_a_session(client, audio):
    with FakeServer(Plan(break_after=2.0)) as server:
        ran = client.run(server.url, audio, "--phrase", "old", "--configure", "new", "--first", 0.05, "--speed", 8)
    check(ran, whole())
    assert [command["keyterms"] for command in server.seen[0].commands if command["type"] == "Configure"] == [["new"]]
    assert [seen.query["keyterm"] for seen in server.seen] == [["old"], ["new"]]
    assert ran.of("Configured") == [{"event": "Configured", "problem": ""}]


def test_a_change_that_was_refused_is_not_asked_for_again(client, audio):
    with FakeServer(Plan(break_after=2.0)) as server:
        ran = client.run(server.url, audio, "--phrase", "old", "--configure", "", "--first", 0.05, "--speed", 8)
    check(ran, whole())
    assert ran.of("Configured") == [{"event": "Configured", "problem": "an empty phrase"}]
    assert [seen.query.get("keyterm") for seen in server.seen] == [["old"], ["old"]]


def test_a_change_before_the_server_took_the_stream_is_not_lost(client, tmp_path):
    """Programs that wait for the first event only make it while they connect, once the address was made."""
    with FakeServer(Plan(refuse=(4429, "BUSY", 0.02)), Plan(late=0.4)) as server:
        ran = client.run(server.url, write_wav(tmp_path / "short.wav", ramp(0.6)), "--configure", "new", "--speed", 1)
    check(ran, whole(0.6))
    assert server.seen[1].query.get("keyterm") is None
    assert [command["keyterms"] for command in server.seen[1].commands if command["type"] == "Configure"] == [["new"]]
    assert ran.of("Configured") == [{"event": "Configured", "problem": ""}]


def test_a_slow_server_is_not_flooded(client, audio):
    with FakeServer(Plan(slow=0.05)) as server:
        ran = client.run(server.url, audio, timeout=30)
    check(ran, whole())
    assert server.seen[0].seconds == 5.3


def test_other_rates(client, tmp_path):
    """48 kHz: three samples where there was one."""
    path = write_wav(tmp_path / "48k.wav", np.repeat(ramp(2.0), 3), 48_000)
    with FakeServer() as server:
        ran = ended(client.start(server.url, path))
    assert ran.status == 0 and server.seen[0].query["sample_rate"] == ["48000"] and server.seen[0].seconds == 6.0
