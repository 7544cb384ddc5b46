"""Every client against the real server: the texts of offline recognition, and a replica that is killed in mid-utterance."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.clients.conftest import CLIENTS, build, ended, write_wav
from tests.clients.serving import REPOSITORY, Balancer, Replica
from tests.export.tiny import waves
from voxkit.audio.decode import read_mono


@pytest.fixture(scope="session")
def said(tmp_path_factory):
    """WAV files; VOXKIT_CLIENTS_AUDIO names a folder of audio to take fifty files of instead."""
    folder = tmp_path_factory.mktemp("said")
    if named := os.environ.get("VOXKIT_CLIENTS_AUDIO"):
        return [write_wav(folder / f"{path.stem}.wav", read_mono(path)[0]) for path in sorted(Path(named).iterdir())[:50]]
    return [write_wav(folder / f"{i}.wav", wave) for i, wave in enumerate(waves(2.5, 0.4, 1.7, 3.2))]


@pytest.fixture(scope="session")
def offline(artifact):
    """(samples, phrases) → the text and words of the artifact without a server, everything as one utterance."""
    from voxkit.runtime.streaming import StreamingRecognizer

    recognizer = StreamingRecognizer(artifact)

    def recognize(samples, phrases=None):
        session = recognizer.session(endpointing=None, phrases=phrases)
        session.accept(np.asarray(samples, np.float32) / 32768)
        return session.finalize()[-1].hypothesis

    return recognize


def read(path):
    import soundfile

    return soundfile.read(path, dtype="int16")[0]


def test_texts_and_words_are_those_of_offline_recognition(client, replica, said, offline):
    wrong = {}
    for path in said:
        ran, expected = client.run(replica.url, path, "--endpointing", 0), offline(read(path))
        assert ran.status == 0 and len(ran.finals) == 1
        (final,) = ran.finals
        if final["text"] != expected.text or [w["word"] for w in final["words"]] != [w.word for w in expected.words]:
            wrong[path.name] = (final["text"], expected.text)
        for word, other in zip(final["words"], expected.words):
            assert (word["start"], word["end"], word["confidence"]) == pytest.approx((other.start, other.end, other.confidence), abs=0.02)
    assert wrong == {} and any(offline(read(path)).text for path in said)


def test_phrases_reach_the_search(client, replica, said, offline):
    path, phrases = said[0], ["enemy landing", "hold the line"]
    ran = client.run(replica.url, path, "--endpointing", 0, "--phrase", phrases[0], "--phrase", phrases[1], "--boost", 15)
    assert ran.status == 0 and ran.text != offline(read(path)).text


def test_refusals_of_the_real_server(client, replica, said):
    ran = client.run(replica.url, said[0], "--phrase", "x" * 101)
    assert ran.status == 1 and ran.events[-1]["code"] == 4400 and ran.events[-1]["name"] == "INVALID" and "100" in ran.events[-1]["message"]


@pytest.fixture(scope="session")
def clients(repository, tmp_path_factory):
    """All that can be built here, compiled before the clock runs."""
    found = []
    for name in CLIENTS:
        try:
            found.append(build(name, repository, tmp_path_factory))
        except pytest.skip.Exception:
            continue
    return found


def test_a_replica_is_killed_in_mid_utterance(clients, replica, artifact, offline, tmp_path):
    """Each client speaks 4.8 s with the button let go every 1.2 s; its replica is killed in the middle of the third utterance.

    What comes is what an unbroken connection says: nothing lost, nothing twice.
    """
    samples = read(write_wav(tmp_path / "said.wav", waves(4.8)[0]))
    expected = [offline(part).text for part in np.split(samples, 4)]
    assert len(set(expected)) == 4
    victim = Replica(artifact)
    try:
        victim.wait()
        with Balancer(victim.port, replica.port, most=3.0 * 32_000) as balancer:
            options = ["--endpointing", 0, "--press", 1.2, "--first", 0.2]
            running = [client.start(balancer.url, tmp_path / "said.wav", *options) for client in clients]
            until = time.monotonic() + 60
            while balancer.answers[victim.port] < 2 * len(clients) and time.monotonic() < until:
                time.sleep(0.02)
            assert balancer.answers[victim.port] == 2 * len(clients)
            victim.kill()
            for client, process in zip(clients, running):
                ran = ended(process)
                assert ran.status == 0 and [again["offset"] for again in ran.of("Reconnecting")] == [2.4], client.name
                assert [final["text"] for final in ran.finals if final["from_finalize"]] == expected, client.name
                assert [final["text"] for final in ran.finals if not final["from_finalize"] and final["text"]] == []
                words = [word for final in ran.finals for word in final["words"]]
                assert all(a["start"] <= b["start"] for a, b in zip(words, words[1:]))
            assert balancer.connections[replica.port] == len(clients)
    finally:
        victim.stop()


def test_the_command(replica, said, offline, tmp_path):
    """`voxkit client`: as a stream, as one request, and a file that is none."""
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("hold the line\t2.0\n\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "VOXKIT_TOKEN": "anything"}

    def command(*arguments):
        return subprocess.run([sys.executable, "-m", "voxkit.cli.main", "client", "--url", replica.url, *map(str, arguments)],
                              capture_output=True, text=True, env=environment, timeout=60)

    text = offline(read(said[0])).text
    done = command(bad, said[0], "--speed", 0, "--endpointing", 0)
    assert done.returncode == 1 and done.stdout == f"{said[0]}\t{text}\n" and "bad.wav" in done.stderr
    events = [json.loads(line) for line in command(said[0], "--json", "--speed", 0, "--phrases", phrases).stdout.splitlines()]
    assert events[0]["event"] == "Connected" and events[-1]["event"] == "Finished" and events[0]["file"] == str(said[0])
    whole = command(said[0], "--whole", "--json")
    assert whole.returncode == 0 and json.loads(whole.stdout)["text"] == text
    gone = command(said[0], "--url", "ws://127.0.0.1:9")
    assert gone.returncode == 2 and "cannot be reached" in gone.stderr and "Traceback" not in gone.stderr
    assert "give audio files, or --microphone" in command().stderr
