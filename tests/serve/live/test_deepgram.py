"""/v1/listen, asked by Deepgram's own client."""

import threading

import pytest

from tests.serve.client import LoudnessVad
from tests.serve.live.test_listen import alone, game
from tests.serve.tiny import heard, pcm, wave
from voxkit.serve.tokens import Tokens

deepgram = pytest.importorskip("deepgram", reason="pip install deepgram-sdk")


def _client(running, key="key"):
    from deepgram.environment import DeepgramClientEnvironment

    here = f"ws://127.0.0.1:{running.port}"
    environment = DeepgramClientEnvironment(base=here.replace("ws", "http"), production=here, agent=here, agent_rest=here)
    return deepgram.DeepgramClient(api_key=key, environment=environment)


def _listen(client, data, control=(), **options):
    """What the client was told, by type."""
    from deepgram.core.events import EventType

    messages = []
    with client.listen.v1.connect(model="nova-3", encoding="linear16", sample_rate=16000, **options) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        thread = threading.Thread(target=connection.start_listening, daemon=True)
        thread.start()
        for first in range(0, len(data), 3200):
            connection.send_media(data[first:first + 3200])
        for one in control:
            getattr(connection, one)()
        connection.send_close_stream()
        thread.join(30)
        assert not thread.is_alive()
    return messages


def test_what_deepgrams_client_hears_is_what_the_model_says(serving, backends):
    data = pcm(wave(3, 2.0))
    running = serving("streaming", tokens=Tokens(["key"]))
    messages = _listen(_client(running), data, endpointing="false", interim_results="true", control=["send_keep_alive", "send_finalize"])
    results = [m for m in messages if getattr(m, "type", None) == "Results"]
    (final,) = [m for m in results if m.is_final]
    expected = alone(backends["streaming"], heard(data))
    best = final.channel.alternatives[0]
    assert best.transcript == expected.text and final.from_finalize and len(results) > 1
    assert [(w.word, w.start) for w in best.words] == [(w.word, pytest.approx(w.start, abs=1e-3)) for w in expected.words]
    assert messages[-1].type == "Metadata" and messages[-1].duration == 2.0


def test_its_events_of_speech(serving, monkeypatch):
    monkeypatch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
    messages = _listen(_client(serving("streaming")), game(0.8, 0.8)[0], endpointing="300", vad_events="true", keyterm=["heal me", "lane"])
    kinds = [getattr(m, "type", None) for m in messages]
    said = [m for m, kind in zip(messages, kinds) if kind == "Results" and m.channel.alternatives[0].transcript]
    assert kinds.count("SpeechStarted") == len(said) == 2 and all(m.speech_final for m in said)


def test_a_wrong_key_is_told(serving):
    messages = _listen_refused(_client(serving("streaming", tokens=Tokens(["key"])), "wrong"))
    assert [m.type for m in messages if getattr(m, "type", None)] == ["Error"] and "token" in messages[0].description


def _listen_refused(client):
    from deepgram.core.events import EventType

    messages = []
    with client.listen.v1.connect(model="nova-3") as connection:
        connection.on(EventType.MESSAGE, messages.append)
        connection.start_listening()
    return messages
