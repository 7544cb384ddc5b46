"""Bodies and their description: one set of models parses and describes them; nothing that is sent makes the service fail."""

import json

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
hypothesis = pytest.importorskip("hypothesis")
testclient = pytest.importorskip("fastapi.testclient", reason="the in-process client needs httpx2")
from hypothesis import strategies as st  # noqa: E402

from voxkit.serve.app import ServeConfig, create_app  # noqa: E402
from voxkit.serve.errors import RequestError  # noqa: E402
from voxkit.serve.inputs import Limits  # noqa: E402
from voxkit.serve.schema import Bodies  # noqa: E402
from voxkit.serve.torch_backend import TorchBackend  # noqa: E402

BODIES = Bodies(bins=3, max_values=1000, max_frames=50)


@pytest.fixture(scope="module")
def client(recognizers):
    with testclient.TestClient(create_app(TorchBackend(recognizers["paraformer"]), ServeConfig(limits=Limits(max_seconds=2.0)))) as client:
        yield client


def test_the_description_is_that_of_the_parser(client):
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert [part["$ref"].rsplit("/", 1)[-1] for part in schemas["Body"]["oneOf"]] == ["Audio", "Features"]
    audio, features = schemas["Audio"], schemas["Features"]
    assert audio["required"] == ["audio"] and features["required"] == ["features"]
    assert audio["additionalProperties"] is False and audio["properties"]["audio"]["minItems"] == 1
    assert audio["properties"]["audio"]["items"] == {"type": "number", "minimum": -1, "maximum": 1}
    assert audio["properties"]["rate"] | {"description": "", "title": ""} == {
        "type": "number", "default": 16000, "minimum": 4000, "maximum": 192000, "multipleOf": 1, "description": "", "title": ""}
    assert features["properties"]["features"]["items"]["minItems"] == features["properties"]["features"]["items"]["maxItems"] == 16
    answers = described["paths"]["/recognize"]["post"]["responses"]
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Answer"}
    assert set(schemas["Answer"]["required"]) == {"text", "confidence", "words", "tokens", "audio_duration"}

    def references(value):
        if isinstance(value, dict):
            return {value["$ref"]} if "$ref" in value else set().union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    assert {r.rsplit("/", 1)[-1] for r in references(described)} <= set(schemas)


def test_answers_keep_to_the_description(client):
    answer = client.post("/recognize", json={"features": [[0.1] * 16] * 60, "words": True}).json()
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(answer) == set(schemas["Answer"]["properties"])
    assert all(set(word) == set(schemas["Word"]["properties"]) for word in answer["words"])
    assert set(client.get("/health").json()) == set(schemas["Health"]["properties"])
    assert set(client.get("/info").json()) == set(schemas["Info"]["properties"])


@pytest.mark.parametrize("rate", [8000, 16000, 16000.0, 4000, 192000.0])
def test_rates_are_whole_numbers_however_they_are_written(rate):
    parsed = BODIES.parse(json.dumps({"audio": [0, 1, -1, 0.5], "rate": rate}).encode())
    assert (parsed.kind, parsed.values, parsed.rate, parsed.words) == ("audio", [0.0, 1.0, -1.0, 0.5], int(rate), False)
    assert type(parsed.rate) is int


def test_what_would_swell_is_refused_before_it_is_parsed():
    for body in (b'{"audio": [' + b"0," * 1001 + b"0]}", b'{"features": [' + b"[]," * 300 + b"[]]}", b'{"a":' * 300):
        with pytest.raises(RequestError, match="the body holds more than") as refused:
            BODIES.parse(body)
        assert refused.value.status == 413


def test_a_model_for_audio_alone():
    bodies = Bodies(bins=None, max_values=1000, max_frames=50)
    assert bodies.parse(b'{"audio": [0.5], "words": true}').words
    for body, said in ((b'{"features": [[1]]}', "takes audio alone"), (b"{}", "send audio"), (b'{"audio": [2]}', r"audio\[0\]: 2"),
                       (b"[1]", "JSON list"), (b'{"sound": 1}', "sound: no such field; there are: audio, rate, words")):
        with pytest.raises(RequestError, match=said):
            bodies.parse(body)
    assert "Features" not in json.dumps(bodies.schema())


_NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)
_VALUES = st.recursive(_NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
                       max_leaves=10)


_FIELDS = st.sampled_from(["audio", "features", "rate", "words"]) | st.text(max_size=4)


@hypothesis.given(st.dictionaries(_FIELDS, _VALUES, max_size=4) | _VALUES)
@hypothesis.settings(max_examples=400, deadline=None)
def test_any_json_is_parsed_or_refused(value):
    try:
        parsed = BODIES.parse(json.dumps(value).encode())
    except RequestError as error:
        assert 400 <= error.status < 500 and error.message
    else:
        assert parsed.values and parsed.kind in value


@hypothesis.given(st.binary(max_size=60) | st.text(alphabet='{}[]",:audiofetrs0123456789.eE+-\\ud8', max_size=60).map(str.encode))
@hypothesis.settings(max_examples=400, deadline=None)
def test_any_bytes_are_refused(body):
    with pytest.raises(RequestError) as refused:
        BODIES.parse(body)
    assert 400 <= refused.value.status < 500


_HEADS = (b"", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90\x00", b"FORM", b".snd", b"caff", b"riff")


@hypothesis.given(st.binary(max_size=200), st.sampled_from(_HEADS))
@hypothesis.settings(max_examples=150, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_file_is_refused_or_read(client, body, head):
    found = client.post("/recognize/file", content=head + body)
    assert found.status_code < 500, found.text
