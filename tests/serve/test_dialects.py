"""OpenAI's live transcription, asked by its own client, and Vosk's dialect."""

import base64
import json

import numpy as np
import pytest

from tests.serve.client import Listener, LoudnessVad
from tests.serve.live.test_listen import alone, game
from tests.serve.tiny import heard, pcm, wave
from voxkit.audio.resample import resample
from voxkit.rate import RATE
from voxkit.serve.live.sessions import LiveLimits
from voxkit.serve.tokens import Tokens

openai = pytest.importorskip("openai", reason="pip install openai")


@pytest.fixture(autouse=True)
def loudness(monkeypatch):
    monkeypatch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
    monkeypatch.setattr("voxkit.serve.live.segments.Vad", LoudnessVad)


@pytest.fixture
def connect(serving):
    """(model) → a context of OpenAI's client."""
    def start(model, key="key"):
        running = serving(model, tokens=Tokens(["key"]))
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key=key, max_retries=0)
        return client.realtime.connect(extra_query={"intent": "transcription"})
    return start


def append(connection, data, piece=9600):
    for first in range(0, len(data), piece):
        connection.input_audio_buffer.append(audio=base64.b64encode(data[first:first + piece]).decode())


def until(connection, kind):
    """Events until one of a kind, which is the last."""
    found = []
    while not found or found[-1].type != kind:
        found.append(connection.recv())
        assert found[-1].type != "error" or kind == "error", found[-1]
    return found


COMPLETED, DELTA = (f"conversation.item.input_audio_transcription.{kind}" for kind in ("completed", "delta"))


@pytest.mark.parametrize("model", ["streaming", "whole"])
def test_push_to_talk_in_openais_words(connect, backends, model):
    samples = heard(pcm(wave(3, 2.0, 24000)))
    expected = alone(backends[model], resample(samples, 24000, RATE)).text
    with connect(model) as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(session={"type": "transcription", "audio": {"input": {
            "format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None}}})
        assert connection.recv().session.audio.input.turn_detection is None
        for _ in range(2):
            append(connection, pcm(samples))
            connection.input_audio_buffer.commit()
            events = until(connection, COMPLETED)
            assert events[-1].transcript == expected and events[-1].usage.seconds == 2.0
            assert "".join(e.delta for e in events if e.type == DELTA) == expected
            (committed,) = [e for e in events if e.type == "input_audio_buffer.committed"]
            assert {e.item_id for e in events} == {committed.item_id}


def test_pauses_in_openais_words(connect):
    data = pcm(resample(heard(game(1.0, 0.8)[0]), RATE, 24000))
    with connect("streaming") as connection:
        connection.recv()
        append(connection, data)
        first, second = until(connection, COMPLETED), until(connection, COMPLETED)
    kinds = [[e.type.rsplit(".", 1)[-1] for e in events if e.type != DELTA] for events in (first, second)]
    assert kinds == [["speech_started", "speech_stopped", "committed", "completed"]] * 2
    assert first[-1].transcript and second[-1].transcript and first[-1].item_id != second[-1].item_id
    assert [e.previous_item_id for e in second if e.type == "input_audio_buffer.committed"] == [first[-1].item_id]


def test_mistakes_in_openais_words(connect):
    with connect("streaming") as connection:
        connection.recv()
        connection.input_audio_buffer.commit()
        assert "no audio yet" in connection.recv().error.message
        for session, why in (({"audio": {"input": {"format": {"type": "audio/pcmu"}}}}, "audio/pcm"), ({"audio": 3}, "must be an object"),
                             ({"audio": {"input": {"turn_detection": {"silence_duration_ms": 1}}}}, "silence_duration_ms"),
                             ({"audio": {"input": {"turn_detection": None, "transcription": {"keywords": [""]}}}}, "is empty")):
            connection.send({"type": "session.update", "event_id": "mine", "session": session})
            said = connection.recv()
            assert said.type == "error" and why in said.error.message and said.error.event_id == "mine"
        connection.send({"type": "input_audio_buffer.append", "audio": "§"})
        assert "base64" in connection.recv().error.message
        append(connection, pcm(wave(1, 1.0, 24000)))
        connection.send({"type": "response.create"})
        assert "no such message" in until(connection, "error")[-1].error.message
        connection.input_audio_buffer.commit()
        assert until(connection, COMPLETED)[-1].transcript


def test_a_session_ends_in_openais_words_after_so_many_seconds(serving):
    client = Listener(serving("streaming", live=LiveLimits(session_seconds=1.0)), "/v1/realtime", intent="transcription")
    for seconds in (0.9, 0.9):
        client.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm(wave(1, seconds, 24000))).decode()})
    client.read()
    assert client.code == 4413 and [m["type"] for m in client.messages[-2:]] == [COMPLETED, "error"]
    assert client.messages[-1]["error"]["code"] == "too_large" and client.messages[-2]["usage"]["seconds"] == pytest.approx(0.9, abs=0.05)


def test_who_is_not_let_in(serving):
    running = serving("streaming", tokens=Tokens(["key"]), live=LiveLimits(max_sessions=0))
    for path in ("/v1/realtime", "/vosk"):
        client = Listener(running, path, intent="transcription")
        client.read()
        assert client.code == 4401
    client = Listener(running, "/v1/realtime", subprotocols=["realtime", "openai-insecure-api-key.key"], intent="transcription")
    client.read(lambda m: m["type"] == "session.created")
    client.send({"type": "input_audio_buffer.append", "audio": "AAAA"}).read()
    assert client.code == 4429 and client.socket.subprotocol == "realtime"
    client = Listener(running, "/v1/realtime", headers={"Authorization": "Bearer key"})
    client.read()
    assert client.code == 4400 and "intent=transcription" in client.messages[-1]["error"]["message"]


def vosk(client, data, piece=3200):
    """Answers to messages of audio, one each, and to the end."""
    answers = []
    for first in range(0, len(data), piece):
        client.socket.send(data[first:first + piece])
        answers.append(json.loads(client.socket.recv(timeout=30)))
    client.socket.send('{"eof" : 1}')
    return answers, json.loads(client.socket.recv(timeout=30))


@pytest.mark.parametrize("model", ["streaming", "whole"])
def test_vosks_dialect(serving, model):
    data, _ = game(1.0, 0.8)
    running = serving(model)
    expected = [m["channel"]["alternatives"][0] for m in Listener(running).audio(data).close().finals]
    client = Listener(running, "/vosk").send({"config": {"sample_rate": 16000, "words": True}})
    answers, last = vosk(client, data)
    assert len(answers) == -(-len(data) // 3200) and all(set(answer) in ({"partial"}, {"result", "text"}, {"text"}) for answer in answers)
    results = [answer for answer in [*answers, last] if answer.get("text")]
    assert " ".join(r["text"] for r in results) == " ".join(e["transcript"] for e in expected if e["transcript"])
    words = [word for result in results for word in result["result"]]
    said = [word for one in expected for word in one["words"]]
    assert [(w["word"], w["start"]) for w in words] == [(w["word"], pytest.approx(w["start"], abs=2e-3)) for w in said]
    client.read()
    assert client.code == 1000


@pytest.mark.parametrize("messages, why", [
    (['{"config": {"sample_rate": 1}}'], "none of 8000"), (['{"config": {"speed": 1}}'], "no such field"), (["hello"], "eof"),
    ([b"\0" * 3200, '{"config": {"sample_rate": 8000}}'], "before the audio"), ([b"\0" * 321], "half of one")])
def test_mistakes_in_vosks_dialect(serving, messages, why):
    client = Listener(serving("streaming"), "/vosk")
    for message in messages:
        client.socket.send(message)
    client.messages.append({"type": ""})
    from websockets.exceptions import ConnectionClosed

    with pytest.raises(ConnectionClosed) as closed:
        while True:
            last = json.loads(client.socket.recv(timeout=30))
    assert closed.value.rcvd.code == 4400 and why in last["error"]


def test_vosks_dialect_at_another_rate_says_nothing_of_nothing(serving):
    client = Listener(serving("streaming"), "/vosk").send({"config": {"sample_rate": 8000, "phrase_list": ["heal me"]}})
    answers, last = vosk(client, pcm(np.zeros(8000, np.float32)), 1600)
    assert answers == 10 * [{"partial": ""}] and last == {"text": ""}
    assert json.loads(Listener(serving("streaming"), "/vosk").send({"eof": 1}).socket.recv(timeout=30)) == {"text": ""}
