"""The HTTP service: what it answers is what the recognizer says; what it refuses, it refuses with the reason and the place."""

import io
import json
import math

import numpy as np
import pytest
import soundfile
import torch

from voxkit.audio.io import read_audio
from voxkit.batch import Batch, Padded
from voxkit.infer.recognizer import SearchOptions
from voxkit.serve.batcher import BatchingConfig
from voxkit.serve.inputs import Limits

fastapi = pytest.importorskip("fastapi", reason="the service needs the extra serve")
testclient = pytest.importorskip("fastapi.testclient", reason="the in-process client needs httpx2")
from voxkit.serve.app import ServeConfig, create_app  # noqa: E402
from voxkit.serve.torch_backend import TorchBackend  # noqa: E402

BINS = 16
MODELS = ("paraformer", "voxformer")


@pytest.fixture(params=MODELS)
def served(request, recognizers):
    with testclient.TestClient(create_app(TorchBackend(recognizers[request.param]), ServeConfig(limits=Limits(max_seconds=2.0)))) as client:
        yield client, recognizers[request.param]


@pytest.fixture
def client(recognizers):
    limits = Limits(max_seconds=2.0, max_bytes=400_000)
    with testclient.TestClient(create_app(TorchBackend(recognizers["paraformer"]), ServeConfig(limits=limits))) as client:
        yield client


def _features(seed=0, frames=80):
    return np.random.default_rng(seed).normal(size=(frames, BINS)).astype("float32")


def _flac(seconds=0.5, rate=16000):
    memory = io.BytesIO()
    soundfile.write(memory, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate, format="FLAC")
    return memory.getvalue()


def test_features_give_what_the_recognizer_says(served):
    client, recognizer = served
    found = client.post("/recognize", json={"features": _features().tolist(), "words": True})
    assert found.status_code == 200, found.text
    batch = Batch(["x"], features=Padded.of([torch.from_numpy(_features())]))
    expected = recognizer.recognize(batch, SearchOptions(words=True))[0]
    body = found.json()
    assert body["text"] == expected.text and len(body["words"]) == len(expected.words) and body["audio_duration"] == 0.8
    assert 0 <= body["confidence"] <= 1
    if expected.token_confidences:
        assert [t["confidence"] for t in body["tokens"]] == pytest.approx(expected.token_confidences, abs=1e-3)
        assert body["confidence"] == pytest.approx(math.prod(expected.token_confidences) ** (1 / len(expected.tokens)), abs=1e-3)


def _answers(recognizer, calibration=None):
    with testclient.TestClient(create_app(TorchBackend(recognizer, calibration=calibration))) as client:
        found = client.post("/recognize", json={"features": _features(1).tolist(), "words": True}).json()
        return found, client.get("/info").json(), client.get("/health").json()


@pytest.mark.parametrize("system", MODELS)
def test_confidences_are_calibrated(recognizers, system):
    """Every confidence p of an answer becomes p^(1/T), and /info and /health say so."""
    plain, info, health = _answers(recognizers[system])
    assert not info["calibrated"] and not health["calibrated"] and info["temperature"] == 1.0 and info["calibrated_on"] is None
    found, info, health = _answers(recognizers[system], calibration={"temperature": 2.5, "set": "dev"})
    assert info["calibrated"] and health["calibrated"] and info["temperature"] == 2.5 and info["calibrated_on"] == "dev"
    assert found["text"] == plain["text"] and plain["words"]
    for kind in ("words", "tokens"):
        assert [x["confidence"] for x in found[kind]] == pytest.approx([x["confidence"] ** 0.4 for x in plain[kind]], abs=2e-3)
    assert found["confidence"] == pytest.approx(plain["confidence"] ** 0.4, abs=2e-3) and found["confidence"] > plain["confidence"] + 0.05


def test_a_file_and_its_samples_give_the_same(served):
    client, recognizer = served
    flac = _flac()
    wave = read_audio(flac)[0]
    by_file = client.post("/recognize/file", content=flac)
    by_samples = client.post("/recognize", json={"audio": wave.tolist()})
    assert by_file.status_code == by_samples.status_code == 200
    assert by_file.json() == by_samples.json() and by_file.json()["text"] == recognizer.transcribe(wave).text
    resampled = client.post("/recognize", json={"audio": wave[::2].tolist(), "rate": 8000})
    assert resampled.status_code == 200 and resampled.json()["audio_duration"] == pytest.approx(0.5)


def test_info_says_what_is_taken(served):
    client, recognizer = served
    assert client.get("/info").json()["feature_bins"] == BINS
    assert client.get("/health").json()["status"] == "ok"
    assert "/recognize" in client.get("/openapi.json").json()["paths"]


GOOD = _features(frames=20).tolist()
REFUSED = {
    "ragged": ({"features": [*GOOD, GOOD[0][:-1]]}, 422, "features[20]: 15 values where features[0] has 16: ragged"),
    "empty": ({"features": []}, 422, "features: empty"),
    "empty frames": ({"features": [[]] * 20}, 422, "features[0]: 0 values; this model takes 16"),
    "other width": ({"features": [row[:8] for row in GOOD]}, 422, "features[0]: 8 values; this model takes 16"),
    "no list": ({"features": 5}, 422, "features: 5 is no list of numbers; send frames"),
    "null alone": ({"features": None}, 422, "features: null is no list of numbers"),
    "text as audio": ({"audio": "abc"}, 422, 'audio: "abc" is no list of numbers; send samples'),
    "flat": ({"features": [1.0, 2.0]}, 422, "features[0]: 1.0 is no list of 16 numbers"),
    "text": ({"features": [*GOOD, ["a"] * BINS]}, 422, 'features[20][0]: "a" is no number'),
    "null": ({"features": [*GOOD, [None] * BINS]}, 422, "features[20][0]: null is no number"),
    "true": ({"features": [*GOOD, [True] * BINS]}, 422, "features[20][0]: true is no number"),
    "deeper": ({"features": [[[1.0]] * BINS] * 20}, 422, "features[0][0]: a list is no number"),
    "huge number": ({"features": [*GOOD, [1e30] * BINS]}, 422, "features[20][0]: 1e+30 is not finite"),
    "huge integer": ({"features": [*GOOD, [10**400] * BINS]}, 422, "is not finite, or too large"),
    "too short": ({"features": GOOD[:5]}, 422, "0.050 s are too short"),
    "too long": ({"features": GOOD * 11}, 413, "220 frames are 2.20 s; at most 2 s"),
    "nothing": ({}, 422, "send either features or audio"),
    "both": ({"features": GOOD, "audio": [0.0]}, 422, "send either features or audio"),
    "unknown field": ({"feature": GOOD}, 422, "feature: no such field"),
    "words": ({"features": GOOD, "words": "yes"}, 422, 'words: "yes", and must be true or false'),
    "loud": ({"audio": [0.0] * 4000 + [300.0]}, 422, "audio[4000]: 300.0 is not between -1 and 1"),
    "nested audio": ({"audio": [[0.0]] * 400}, 422, "audio[0]: a list is no number; send the samples of one channel"),
    "no audio": ({"audio": []}, 422, "audio: empty"),
    "long audio": ({"audio": [0] * 32001}, 413, "audio: 32001 samples are 2.00 s; at most 2 s"),
    "rate": ({"audio": [0.0] * 4000, "rate": 0}, 422, "rate: 0 is no number of samples per second between 4000 and 192000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(client, name):
    body, status, message = REFUSED[name]
    found = client.post("/recognize", content=json.dumps(body))
    assert found.status_code == status, found.text
    assert message in found.json()["error"], found.json()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_refused(client, value):
    text = json.dumps({"features": GOOD}).replace(str(GOOD[3][4]), value, 1)
    found = client.post("/recognize", content=text)
    assert found.status_code == 422 and "features[3][4]" in found.json()["error"] and "not finite" in found.json()["error"]
    found = client.post("/recognize", content=f'{{"audio": [0.0, {value}, {", ".join(["0.0"] * 4000)}]}}')
    assert found.status_code == 422 and "audio[1]" in found.json()["error"]


@pytest.mark.parametrize("body,status", [(b"", 400), (b"{", 400), (b"[]", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 413),
                                         (b"[" * 300, 400), (b"5", 400), (b"null", 400), (b'"features"', 400)])
def test_no_json(client, body, status):
    assert client.post("/recognize", content=body).status_code == status


def test_bodies_too_large(client):
    assert client.post("/recognize", content=b" " * 400_001).status_code == 413

    def chunks():  # no content-length to go by
        for _ in range(50):
            yield b" " * 10_000

    assert client.post("/recognize", content=chunks()).status_code == 413


@pytest.mark.parametrize("body,status,message", [
    (b"", 422, "the body is empty"), (b"not audio at all", 422, "cannot be read as audio"), (_flac(0.01), 422, "too short"),
    (_flac(2.5), 413, "longer than 2 s")])
def test_files_refused(client, body, status, message):
    found = client.post("/recognize/file", content=body)
    assert found.status_code == status and message in found.json()["error"]


@pytest.mark.parametrize("method,path,status,message", [
    ("GET", "/nowhere", 404, "no /nowhere here; there are POST /recognize"), ("GET", "/docs", 404, "no /docs here"),
    ("GET", "/redoc", 404, "no /redoc here"), ("GET", "/recognize", 405, "GET /recognize: only POST is taken"),
    ("POST", "/health", 405, "POST /health: only GET is taken"),
    ("POST", "/recognize/file?words=perhaps", 422, "words: 'perhaps', and must be true or false, as in ?words=true"),
    ("POST", "/recognize/file?word=true", 422, "word: no such parameter of /recognize/file; there are: words"),
    ("POST", "/recognize/file?words=true&x=1", 422, "x: no such parameter"),
    ("POST", "/recognize?words=true", 422, "words: no such parameter of /recognize; there are: none"),
    ("GET", "/info?all=1", 422, "all: no such parameter of /info"), ("GET", "/health?x=1", 422, "x: no such parameter")])
def test_errors_of_the_framework_have_the_same_shape(client, method, path, status, message):
    found = client.request(method, path, content=_flac())
    assert found.status_code == status and list(found.json()) == ["error"] and message in found.json()["error"], found.text
    assert ("allow" in found.headers) == (status == 405)


def test_a_failure_has_the_same_shape(recognizers, monkeypatch):
    monkeypatch.setattr("voxkit.serve.rest.input_of", lambda parsed, limits: 1 / 0)
    with testclient.TestClient(create_app(TorchBackend(recognizers["paraformer"])), raise_server_exceptions=False) as client:
        found = client.post("/recognize", json={"features": GOOD})
    assert found.status_code == 500 and found.json() == {"error": "the service failed: ZeroDivisionError; its log says more"}


def test_a_form_is_refused(client):
    found = client.post("/recognize/file", files={"file": ("a.flac", _flac())})
    assert found.status_code == 415 and "curl --data-binary" in found.json()["error"]


def test_the_description_knows_the_shape_of_errors(client):
    described = client.get("/openapi.json").text
    assert "detail" not in described and '"error"' in described and "octet-stream" in described


def test_a_refusal_leaves_the_service_working(client):
    client.post("/recognize", content=b"{")
    assert client.post("/recognize", json={"features": GOOD}).status_code == 200


def test_a_model_for_audio_alone_says_so(recognizers, monkeypatch):
    monkeypatch.setattr("voxkit.serve.torch_backend.feature_bins", lambda recognizer: None)
    with testclient.TestClient(create_app(TorchBackend(recognizers["voxformer"]))) as client:
        found = client.post("/recognize", json={"features": GOOD})
    assert found.status_code == 422 and "takes audio alone" in found.json()["error"]


def test_options_that_cannot_be(recognizers):
    with pytest.raises(ValueError, match="min_seconds.*timeout.*max_batch"):
        create_app(TorchBackend(recognizers["paraformer"]),
                   ServeConfig(limits=Limits(max_seconds=0.0, timeout=0), batching=BatchingConfig(max_batch=0)))
