"""POST /v1/audio/transcriptions, asked by OpenAI's own client."""

import io

import pytest
import soundfile

from tests.serve.tiny import wave
from voxkit.rate import RATE
from voxkit.serve.backend import Asked
from voxkit.serve.inputs import Input, Limits
from voxkit.serve.tokens import Tokens

openai = pytest.importorskip("openai", reason="pip install openai")


def wav(audio):
    memory = io.BytesIO()
    soundfile.write(memory, audio, RATE, format="WAV", subtype="FLOAT")
    return memory.getvalue()


AUDIO = wave(6, 2.4)
FILE = ("clip.wav", wav(AUDIO))


@pytest.fixture(params=["streaming", "whole", "voxformer"])
def asked(request, serving, backends):
    """(client, what the model says)."""
    running = serving(request.param, tokens=Tokens(["key"]))
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="key", max_retries=0)
    yield client.audio.transcriptions, backends[request.param].recognize([Input("audio", AUDIO, 2.4)], Asked("audio", True))[0]
    client.close()


def test_every_format(asked):
    transcriptions, expected = asked
    assert transcriptions.create(file=FILE, model="whisper-1").text == expected.text
    assert transcriptions.create(file=FILE, model="whisper-1", response_format="text") == expected.text + "\n"
    srt = transcriptions.create(file=FILE, model="whisper-1", response_format="srt")
    vtt = transcriptions.create(file=FILE, model="whisper-1", response_format="vtt")
    assert srt.startswith("1\n00:00:") and " --> " in srt and vtt.startswith("WEBVTT\n\n00:00:")
    assert " ".join(" ".join(line for line in srt.splitlines() if line and "-->" not in line and not line.isdigit()).split()) == \
        " ".join(expected.text.split())


def test_words_and_segments(asked):
    transcriptions, expected = asked
    segments = transcriptions.create(file=FILE, model="x", response_format="verbose_json", language="en")
    assert (segments.text, segments.duration, segments.language, segments.words) == (expected.text, 2.4, "en", None)
    assert [(s.text, s.start, s.end) for s in segments.segments] == [(expected.text, 0.0, 2.4)]
    words = transcriptions.create(file=FILE, model="x", response_format="verbose_json", timestamp_granularities=["word"])
    assert words.segments is None and [w.word for w in words.words] == [w.word for w in expected.words] and words.words
    assert [w.start for w in words.words] == pytest.approx([w.start for w in expected.words], abs=1e-3)
    both = transcriptions.create(file=FILE, model="x", response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert both.words == words.words and both.segments


def test_events(asked):
    transcriptions, expected = asked
    events = list(transcriptions.create(file=FILE, model="x", stream=True))
    assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == expected.text
    assert events[-1].type == "transcript.text.done" and events[-1].text == expected.text


def test_phrases(serving):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{serving('whole').port}/v1", api_key="-", max_retries=0)
    with client:
        plain = client.audio.transcriptions.create(file=FILE, model="x").text
        told = client.audio.transcriptions.create(file=FILE, model="x", extra_body={"keywords": ["heal", "lane"]}).text
        assert plain and told
        with pytest.raises(openai.BadRequestError, match="keywords"):
            client.audio.transcriptions.create(file=FILE, model="x", extra_body={"keywords": ["§"]})


def test_refusals_are_openais(serving):
    running = serving("whole", tokens=Tokens(["key"]), limits=Limits(max_seconds=2.0))
    with openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="key", max_retries=0) as client:
        create = client.audio.transcriptions.create
        short = ("clip.wav", wav(AUDIO[:RATE]))
        for arguments, error, why in [
            ({"file": ("a.wav", b"RIFFabc")}, openai.UnprocessableEntityError, "audio"),
            ({"file": ("a.wav", wav(AUDIO))}, openai.APIStatusError, "longer than 2 s"),
            ({"file": short, "response_format": "xml"}, openai.BadRequestError, "response_format: 'xml' is none of"),
            ({"file": short, "timestamp_granularities": ["word"]}, openai.BadRequestError, "need response_format verbose_json"),
            ({"file": short, "extra_body": {"speed": "2"}}, openai.BadRequestError, "speed: no such field"),
        ]:
            with pytest.raises(error, match=why) as found:
                create(model="x", **arguments)
            assert found.value.body["message"] and found.value.body["type"] == "invalid_request_error"
        assert create(file=short, model="x").text
    with openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="no", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.audio.transcriptions.create(file=short, model="x")


@pytest.mark.parametrize("kind, body, why", [
    ("application/json", b"{}", "multipart/form-data"), ("multipart/form-data", b"", "cannot be read"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data", "cannot be read|one file"),
    ("multipart/form-data; boundary=x", b"--x--\r\n", "send one file"),
    ("multipart/form-data; boundary=x", 300 * b"--x\r\nContent-Disposition: form-data; name=\"keywords[]\"\r\n\r\na\r\n" + b"--x--\r\n",
     "more than 256 fields")])
def test_forms_that_are_none(serving, kind, body, why):
    import re

    status, answer = serving("whole").ask("POST", "/v1/audio/transcriptions", body, {"Content-Type": kind})
    assert status == 400 and re.search(why, answer["error"]["message"])
