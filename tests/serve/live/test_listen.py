"""/v1/listen on a real server: what it says is what the model says, in the protocol's words; and how sessions end."""

import contextlib
import hashlib
import json
import threading

import numpy as np
import pytest

from tests.serve.client import ConnectionClosed, Listener, LoudnessVad, final, transcript
from tests.serve.tiny import heard, pcm, wave
from voxkit.rate import RATE
from voxkit.serve.inputs import Limits
from voxkit.serve.live.sessions import LiveLimits
from voxkit.serve.tokens import Tokens

MODELS = ("streaming", "whole", "voxformer")  # a streaming artifact, one over whole utterances, a checkpoint
SILENCE = np.zeros(RATE, np.float32)


@pytest.fixture(autouse=True)
def loudness(monkeypatch):
    monkeypatch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
    monkeypatch.setattr("voxkit.serve.live.segments.Vad", LoudnessVad)


def alone(backend, audio, **options):
    """What a model says of one utterance."""
    from voxkit.serve.backend import Asked
    from voxkit.serve.inputs import Input

    return backend.recognize([Input("audio", audio, len(audio) / RATE)], Asked("audio", True, **options))[0]


def game(*seconds):
    """Utterances with a second of silence behind each → bytes, and where each begins and ends."""
    parts, spans, at = [], [], 0
    for seed, length in enumerate(seconds):
        parts += [wave(seed, length), SILENCE]
        spans.append((at / RATE, (at + len(parts[-2])) / RATE))
        at += len(parts[-2]) + RATE
    return pcm(np.concatenate(parts)), spans


@pytest.mark.parametrize("model", MODELS)
def test_a_clip_says_what_the_model_says(serving, backends, model):
    data = pcm(wave(3, 2.3))
    expected = alone(backends[model], heard(data))
    client = Listener(serving(model), endpointing="false").audio(data).close()
    (said,) = client.finals
    assert client.text == expected.text and client.text
    assert (said["start"], said["duration"], said["is_final"], said["from_finalize"]) == (0.0, 2.3, True, False)
    words = said["channel"]["alternatives"][0]["words"]
    assert [w["word"] for w in words] == [w.word for w in expected.words]
    assert [w["start"] for w in words] == pytest.approx([w.start for w in expected.words], abs=1e-3)
    assert client.code == 1000 and [m["type"] for m in client.messages] == ["Begin", "Results", "Metadata"]
    last = client.messages[-1]
    assert last["duration"] == 2.3 and last["sha256"] == hashlib.sha256(data).hexdigest() and last["channels"] == 1
    assert last["request_id"] == client.messages[0]["request_id"] == said["metadata"]["request_id"]


def test_the_session_begins_with_what_holds(serving):
    running = serving("streaming", live=LiveLimits(idle=7.0), limits=Limits(max_seconds=9.0))
    begin = Listener(running, endpointing=400, offset=3.5, interim_results="true", model="nova-3").close().messages[0]
    assert begin["type"] == "Begin" and begin["protocol"] == 1 and begin["streaming"] is True and begin["model"] == "voxformer"
    assert (begin["offset"], begin["endpointing"], begin["interim_results"], begin["ignored"]) == (3.5, 400, True, ["model"])
    assert begin["limits"] == {"message_seconds": 1.0, "message_bytes": 2**20, "idle_timeout": 7.0, "session_seconds": 14400.0,
                               "utterance_seconds": 9.0, "keyterms": 100, "keyterm_characters": 100}
    assert Listener(serving("whole"), endpointing="false").close().messages[0]["endpointing"] is False


@pytest.mark.parametrize("model", MODELS)
def test_many_at_once_each_hear_their_own(serving, backends, model):
    """No text of one session in another: sessions together say what each says alone."""
    running, found = serving(model), {}
    clips = {seed: pcm(wave(seed, 1.0 + 0.2 * seed)) for seed in range(8)}

    def one(seed):
        found[seed] = Listener(running, endpointing="false").audio(clips[seed], 1000 + 200 * seed).close().text

    threads = [threading.Thread(target=one, args=(seed,)) for seed in clips]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {seed: alone(backends[model], heard(data)).text for seed, data in clips.items()}


@pytest.mark.parametrize("model", MODELS)
def test_silence_ends_utterances(serving, model):
    data, spans = game(1.0, 0.8, 1.2)
    client = Listener(serving(model), endpointing=300).audio(data).close()
    said = [m for m in client.finals if transcript(m)]
    assert len(said) == len(client.of("SpeechStarted")) == 3
    for message, started, (begin, end) in zip(said, client.of("SpeechStarted"), spans):
        assert message["speech_final"] and not message["from_finalize"] and started["timestamp"] == message["start"]
        assert begin - 0.54 <= message["start"] <= begin + 0.04 and end + 0.2 < message["start"] + message["duration"] < end + 0.45
        for word in message["channel"]["alternatives"][0]["words"]:
            assert message["start"] <= word["start"] <= word["end"] <= message["start"] + message["duration"] + 1e-6
    order = [m["type"] for m in client.messages if m["type"] != "Metadata" and not (m["type"] == "Results" and not transcript(m))]
    assert order == ["Begin"] + 3 * ["SpeechStarted", "Results"]


def test_the_begin_of_speech_is_not_told_where_nobody_wants_it(serving):
    client = Listener(serving("streaming"), vad_events="false").audio(game(0.8)[0]).close()
    assert client.text and not client.of("SpeechStarted")


@pytest.mark.parametrize("model", MODELS)
def test_interim_results_grow_into_the_final(serving, backends, model):
    data = pcm(wave(5, 3.0))
    client = Listener(serving(model), endpointing="false", interim_results="true")
    for first in range(0, len(data), 32000):  # as it would come: of two interim results that were not read, the newer one stays
        client.send(data[first:first + 32000]).read(lambda m: m["type"] == "Results")
    client.close()
    interim = [m for m in client.of("Results") if not m["is_final"]]
    assert interim and all(m["start"] == 0.0 and not m["speech_final"] for m in interim)
    assert [m["duration"] for m in interim] == sorted(m["duration"] for m in interim)
    assert client.text == alone(backends[model], heard(data)).text and client.messages[-2] == client.finals[0]
    assert len(Listener(serving(model), endpointing="false").audio(data).close().of("Results")) == 1


@pytest.mark.parametrize("model", MODELS)
def test_push_to_talk(serving, backends, model):
    """Finalize ends an utterance, and is answered once each time, where nothing was said too."""
    first, second = pcm(wave(1, 1.0)), pcm(wave(2, 1.4))
    client = Listener(serving(model), endpointing="false")
    for data in (first, second, b""):
        client.audio(data).send({"type": "Finalize"}).read(final)
    client.send({"type": "KeepAlive"}).close()
    assert [transcript(m) for m in client.finals] == [*(alone(backends[model], heard(data)).text for data in (first, second)), ""]
    assert all(m["from_finalize"] and m["speech_final"] for m in client.finals)
    assert [(m["start"], m["duration"]) for m in client.finals] == [(0.0, 1.0), (1.0, 1.4), (2.4, 0.0)]


@pytest.mark.parametrize("model", MODELS)
def test_finalize_in_the_middle_of_speech(serving, model):
    client = Listener(serving(model)).audio(pcm(wave(1, 1.0))).send({"type": "Finalize"})
    assert client.read(final)["from_finalize"] and transcript(client.finals[0])
    client.audio(pcm(SILENCE)).send({"type": "Finalize"})
    assert client.read(final)["from_finalize"] and not transcript(client.finals[1])
    ends = [m["start"] + m["duration"] for m in client.finals]
    assert ends == pytest.approx([1.0, 2.0], abs=0.04)
    client.close()


def test_long_silence_is_told(serving):
    """So that clients can let go of it; speech behind it begins after what was told."""
    for model in MODELS:
        data = pcm(np.concatenate([np.zeros(13 * RATE, np.float32), wave(1, 1.0), SILENCE]))
        client = Listener(serving(model)).audio(data, 32000).close()
        *quiet, last = client.finals
        assert [transcript(m) for m in quiet] == ["", ""] and transcript(last)
        ends = [m["start"] + m["duration"] for m in client.finals]
        assert ends[0] >= 5.0 and ends[1] >= ends[0] + 5.0 and last["start"] >= ends[1]
        assert not any(m["speech_final"] for m in quiet)


@pytest.mark.parametrize("rate, encoding, channels", [(8000, "linear16", 1), (48000, "linear32", 2), (22050, "linear16", 2)])
def test_other_audio_is_resampled_and_mixed(serving, backends, rate, encoding, channels):
    from voxkit.audio.resample import resample

    audio = wave(4, 2.0, rate)
    values = heard(pcm(audio)) if encoding == "linear16" else audio
    raw = (values * 32768).astype("<i2") if encoding == "linear16" else values.astype("<f4")
    data = np.repeat(raw, channels).tobytes()
    client = Listener(serving("streaming"), endpointing="false", sample_rate=rate, encoding=encoding, channels=channels)
    client.audio(data, 4096).close()
    assert client.text == alone(backends["streaming"], resample(values, rate, RATE)).text and client.messages[-1]["duration"] == 2.0


@pytest.mark.parametrize("model", ["streaming", "whole"])
def test_phrases_are_favored_from_the_next_utterance_on(serving, model):
    data, running = pcm(wave(7, 1.0)), serving(model)
    plain = Listener(running, endpointing="false").audio(data).close().text
    assert "lane" not in plain
    if model == "whole":  # greedy search over whole utterances says what is likeliest; it takes phrases as a beam of one
        assert "lane" in Listener(running, endpointing="false", keyterm="lane", keyterm_boost=20).audio(data).close().text
    client = Listener(running, endpointing="false", keyterm=["lane", "push"], keyterm_boost=20)
    for keyterms in (None, [], ["lane"]):
        if keyterms is not None:
            client.send({"type": "Configure", "keyterms": keyterms})
            assert client.read(lambda m: m["type"] == "ConfigureSuccess")["keyterms"] == keyterms
        client.audio(data).send({"type": "Finalize"}).read(final)
    client.close()
    said = [transcript(m) for m in client.finals]
    assert "lane" in said[0] and said[1] == plain and "lane" in said[2]


@pytest.mark.parametrize("message, why", [
    ({"keyterms": ["§§§"]}, "§"), ({"keyterms": "heal"}, "list of texts"), ({"endpointing": False}, "cannot be turned on or off"),
    ({"endpointing": 5}, "between 30 and 10000"), ({"speed": 3}, "no such field"), ({"features": {"numerals": True}}, "formats nothing"),
    ({"interim_results": 1}, "true or false")])
def test_a_change_that_cannot_be_changes_nothing(serving, message, why):
    client = Listener(serving("streaming")).send({"type": "Configure", **message})
    said = client.read(lambda m: m["type"] == "ConfigureFailure")
    assert why in said["description"] and said["code"] == "CONFIGURE_INVALID"
    assert client.audio(game(0.8)[0]).close().text and client.code == 1000


def test_changes_are_answered_in_order(serving):
    """A refusal does not overtake what was asked before it: clients count answers."""
    client = Listener(serving("streaming"), endpointing="false").audio(pcm(wave(1, 0.5)))
    for keyterms in (["lane"], [""], ["push"]):
        client.send({"type": "Configure", "keyterms": keyterms})
    client.close()
    kinds = ["ConfigureSuccess", "ConfigureFailure", "ConfigureSuccess"]
    assert [m["type"] for m in client.messages if m["type"].startswith("Configure")] == kinds


def test_a_shorter_silence_holds_at_once(serving):
    data, _ = game(0.8, 0.8)
    client = Listener(serving("streaming"), endpointing=5000)
    client.send({"type": "Configure", "endpointing": 200, "interim_results": True}).audio(data).close()
    assert len([m for m in client.finals if transcript(m)]) == 2 and len(client.of("Results")) > 2


@pytest.mark.parametrize("model", MODELS)
def test_a_session_goes_on_elsewhere_from_its_last_final(serving, model):
    """Nothing lost, nothing twice: whatever the connection breaks at, the finals are those of one that does not."""
    data, _ = game(1.0, 0.8, 1.2, 0.7)
    running = serving(model)
    unbroken = Listener(running, endpointing=300).audio(data).close()
    for seconds in (1.6, 3.3, 5.5):
        broken = Listener(running, endpointing=300).audio(data[:int(seconds * RATE) * 2])
        broken.read(lambda m, seconds=seconds: final(m) and m["start"] + m["duration"] > seconds - 1.9)
        broken.vanish()
        offset = broken.finals[-1]["start"] + broken.finals[-1]["duration"]
        rest = Listener(running, endpointing=300, offset=offset).audio(data[round(offset * RATE) * 2:]).close()
        found = broken.finals + rest.finals
        assert [transcript(m) for m in found if transcript(m)] == [transcript(m) for m in unbroken.finals if transcript(m)]
        starts = [m["start"] for m in found if transcript(m)]
        assert starts == pytest.approx([m["start"] for m in unbroken.finals if transcript(m)], abs=0.05)


@pytest.mark.parametrize("query, why", [
    ({"sample_rate": 16001}, "sample_rate: '16001' is none of 8000"), ({"encoding": "mp3"}, "none of linear16, linear32"),
    ({"channels": 3}, "none of 1, 2"), ({"endpointing": 10}, "no number between 30 and 10000"), ({"endpointing": "nan"}, "no number"),
    ({"interim_results": "yes"}, "not true or false"), ({"offset": -1}, "offset"), ({"offset": "inf"}, "offset"),
    ({"speed": 2}, "speed: no such parameter"), ({"diarize": "true"}, "this server does not do it"), ({"keyterm": ""}, "empty"),
    ({"keyterm": "x" * 101}, "longer than 100"), ({"keyterm": ["x"] * 101}, "at most 100"), ({"keyterm": "§"}, "§"),
    ({"sample_rate": [8000, 16000]}, "given twice"),
    ({"model": ["a", "b"]}, "model: given twice"), ({"keyterm_boost": 21}, "keyterm_boost")])
def test_parameters_that_cannot_be(serving, query, why):
    client = Listener(serving("streaming"), **query)
    client.read()
    assert client.code == 4400 and [m["type"] for m in client.messages] == ["Error"] and why in client.messages[0]["message"]
    assert client.messages[0] | {"code": 4400, "variant": "INVALID", "retry_after": None} == client.messages[0]


@pytest.mark.parametrize("message, why", [
    ("{", "no JSON"), ("[]", "a message of type 'None'"), ('{"type": "Stop"}', "there are: KeepAlive"), (b"\0" * 641, "never send half"),
    ('{"type": "Finalize", "channel": 1}', "number 0")])
def test_messages_that_cannot_be_end_the_session_with_what_was_said(serving, message, why):
    client = Listener(serving("streaming"), endpointing="false").audio(pcm(wave(1, 1.0))).send(message)
    client.read()
    assert client.code == 4400 and why in client.messages[-1]["message"] and client.text and not client.of("Metadata")


def test_samples_that_are_no_audio(serving):
    for value in (np.nan, np.inf, 3e38, 32000.0):
        for model in ("streaming", "whole"):
            for channels in (1, 2):
                samples = np.full(1600 * channels, 0.1, "<f4")
                samples[800] = value
                client = Listener(serving(model), encoding="linear32", channels=channels).send(samples.tobytes())
                client.read()
                assert client.code == 4400 and "samples after 0.00 s" in client.messages[-1]["message"], value


def test_tokens(serving):
    running = serving("streaming", tokens=Tokens(["open-sesame"]))
    for ways in ({}, {"headers": {"Authorization": "Bearer sesame"}}, {"subprotocols": ["token", "x"]}, {"token": "x"},
                 {"subprotocols": ["open-sesame"]}):
        client = Listener(running, **ways)
        client.read()
        assert client.code == 4401 and client.messages[-1]["variant"] == "UNAUTHORIZED"
    for ways in ({"headers": {"Authorization": "Bearer open-sesame"}}, {"headers": {"Authorization": "Token open-sesame"}},
                 {"subprotocols": ["token", "open-sesame"]}, {"subprotocols": ["bearer", "open-sesame"]}, {"token": "open-sesame"}):
        client = Listener(running, **ways)
        assert client.socket.subprotocol == ways.get("subprotocols", [None])[0]
        assert client.close().code == 1000


def test_nobody_waits_for_who_says_nothing(serving):
    client = Listener(serving("streaming", live=LiveLimits(idle=0.3)), endpointing="false").audio(pcm(wave(1, 1.0)))
    client.read()
    assert client.code == 4408 and "KeepAlive" in client.messages[-1]["message"] and client.text


def test_too_much(serving):
    running = serving("whole", limits=Limits(max_seconds=2.0), live=LiveLimits(session_seconds=4.0))
    client = Listener(running, endpointing="false").audio(pcm(wave(1, 1.0))).send(bytes(2 * RATE * 2))
    client.read()
    assert client.code == 4413 and "a message of 2.00 s" in client.messages[-1]["message"] and client.text
    client = Listener(running, endpointing="false").audio(pcm(wave(1, 2.5)))  # an utterance
    client.read()
    assert client.code == 4413 and "Finalize in time" in client.messages[-1]["message"] and client.text
    assert 1.4 <= client.finals[-1]["duration"] <= 2.0
    client = Listener(running).audio(game(1.0, 1.0, 1.0)[0])  # a session
    client.read()
    assert client.code == 4413 and "a session of more than 4 s" in client.messages[-1]["message"] and len(client.finals) == 2
    client = Listener(serving("streaming", limits=Limits(max_seconds=2.0)), endpointing="false").audio(pcm(wave(1, 2.5)))
    client.read()
    assert client.code == 4413 and client.text and 1.4 <= client.finals[-1]["duration"] <= 2.0


def test_as_many_as_are_taken(serving):
    running = serving("streaming", live=LiveLimits(max_sessions=2))
    first, second = Listener(running), Listener(running)
    first.read(lambda m: m["type"] == "Begin")
    second.read(lambda m: m["type"] == "Begin")
    refused = Listener(running)
    refused.read()
    assert refused.code == 4429 and refused.messages[-1]["retry_after"] > 0 and refused.messages[-1]["variant"] == "BUSY"
    first.close()
    third = Listener(running)
    third.read(lambda m: m["type"] == "Begin")
    second.close(), third.close()


def test_a_machine_that_cannot_keep_up_takes_no_more(serving, monkeypatch):
    running = serving("streaming")
    monkeypatch.setattr(type(running.service.sessions.host), "delay", 0.3)
    refused = Listener(running)
    refused.read()
    assert refused.code == 4429 and "keep up" in refused.messages[-1]["message"]


def test_who_is_gone_is_forgotten(serving):
    running = serving("streaming")
    clients = [Listener(running).audio(game(1.0)[0]) for _ in range(5)]
    for client in clients:
        client.read(lambda m: m["type"] == "Begin")
        client.vanish()
    for _ in range(500):
        if not running.service.sessions.count and not running.service.sessions.host.streams:
            break
        threading.Event().wait(0.01)
    assert running.service.sessions.count == 0 and not running.service.sessions.host.streams
    assert Listener(running).audio(game(1.0)[0]).close().text


@pytest.mark.parametrize("model", MODELS)
def test_a_server_that_stops_loses_nothing_it_was_sent(serving, model):
    """Draining, then the finals of all that arrived, then 4503; meanwhile nobody else is let in."""
    data, _ = game(1.0, 0.8)
    running = serving(model, limits=Limits(drain=4.0))
    client = Listener(running, endpointing=300).audio(data[:RATE])  # half of the first utterance
    client.read(lambda m: m["type"] == "SpeechStarted")
    other = Listener(running, endpointing="false").audio(pcm(wave(3, 1.0)))
    other.read(lambda m: m["type"] == "Begin")
    running.server.should_exit = True
    assert 0 < client.read(lambda m: m["type"] == "Draining")["seconds"] <= 2.0
    late = Listener(running)
    late.read()
    assert late.code == 4503 and late.messages[-1]["retry_after"] == 0.0 and running.ask_text("/ready") == (503, "stopping\n")
    with contextlib.suppress(ConnectionClosed):  # it need not take what comes behind the utterance
        client.audio(data[RATE:])
    client.read(), other.read()
    for one in (client, other):
        assert one.code == 4503 and one.messages[-1]["type"] == "Error" and one.messages[-2]["type"] == "Metadata" and one.text
    assert other.finals[-1]["start"] + other.finals[-1]["duration"] == 1.0
    end = client.finals[-1]["start"] + client.finals[-1]["duration"]
    assert end >= 1.2  # the rest is sent to another replica, from there on
    running.finish()


@pytest.mark.parametrize("model", ["streaming", "whole"])
def test_a_failure_is_told_and_the_next_session_works(serving, backends, monkeypatch, model, caplog):
    running, data = serving(model), pcm(wave(1, 1.0))
    with monkeypatch.context() as patch:
        target = (backends[model].streaming, "step") if model == "streaming" else (backends[model], "recognize")
        patch.setattr(*target, lambda *given: 1 / 0)
        client = Listener(running, endpointing="false").audio(data)
        with contextlib.suppress(ConnectionClosed):
            client.send({"type": "CloseStream"})
        client.read()
        assert client.code == 1011 and client.messages[-1]["variant"] == "FAILED" and "ZeroDivisionError" in caplog.text
    assert Listener(running, endpointing="false").audio(data).close().text == alone(backends[model], heard(data)).text


def test_json_is_what_browsers_read(serving):
    """No NaN in any message."""
    client = Listener(serving("streaming"), interim_results="true").audio(game(1.0, 0.5)[0]).close()
    json.loads(json.dumps(client.messages, allow_nan=False))
