"""Whatever is sent: an answer or a refusal, in time, and a service that goes on. Few examples here; VOXKIT_FUZZ=500 tries so many."""

import json
import os

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.serve.client import Listener, LoudnessVad
from tests.serve.tiny import pcm, wave
from voxkit.serve.inputs import Limits
from voxkit.serve.live.sessions import LiveLimits

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
EXAMPLES = int(os.environ.get("VOXKIT_FUZZ", "12"))
SETTINGS = hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), database=None)
CODES = {1000, 4400, 4408, 4413}
GOOD = pcm(wave(1, 1.0))


@pytest.fixture(scope="module")
def running(backends):
    """One server for all examples: what one leaves behind, the next would meet."""
    import threading

    from tests.serve.conftest import Running
    from voxkit.serve.app import create_app
    from voxkit.serve.server import make_server
    from voxkit.serve.service import ServeConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
        config = ServeConfig(limits=Limits(max_seconds=4.0, timeout=10.0), live=LiveLimits(idle=5.0))
        app = create_app(backends["streaming"], config)
        server = make_server(app, port=0, log_level="warning", grpc_port=0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        running = Running(server, thread, server.servers[0].sockets[0].getsockname()[1], app)
        yield running
        running.finish()


@pytest.fixture
def sound(running):
    """After the examples the service says what it said before, and holds nothing of them."""
    before = Listener(running, endpointing="false").audio(GOOD).close().text
    yield
    assert Listener(running, endpointing="false").audio(GOOD).close().text == before
    assert running.service.requests.held == 0 and running.service.sessions.count == 0 and running.ask("GET", "/health")[0] == 200


def test_rest(running, sound):
    """Every path that is described, with requests that keep to the description and such that do not."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")
    operations, answered = [found.ok() for found in schema.get_all_operations()], []
    assert {operation.path for operation in operations} >= {"/recognize", "/recognize/file", "/v1/audio/transcriptions", "/info"}
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    for operation in operations:
        for mode in modes:
            try:
                cases = operation.as_strategy(generation_mode=mode)

                @hypothesis.given(case=cases)
                @SETTINGS
                def ask(case):
                    response = case.call(timeout=20)
                    answered.append(response.status_code)
                    assert response.status_code < 500, response.text
                    if response.status_code >= 400:
                        error = response.json()["error"]
                        assert error["message"] if isinstance(error, dict) else error

                ask()
            except hypothesis.errors.Unsatisfiable:  # there is nothing to send that does not keep to it
                assert mode is modes[1]
    assert 200 in answered and any(status >= 400 for status in answered)


json_value = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                          lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6)
control = st.fixed_dictionaries(
    {"type": st.sampled_from(["KeepAlive", "Finalize", "CloseStream", "Configure", "Stop", ""])},
    optional={"channel": json_value, "keyterms": json_value, "endpointing": json_value, "interim_results": json_value, "x": json_value})
frame = st.one_of(control.map(json.dumps), json_value.map(json.dumps), st.text(max_size=50), st.binary(max_size=200),
                  st.integers(0, 20000).map(lambda n: GOOD[:2 * n]), st.just(b"\xff" * 64000))
query = st.fixed_dictionaries({}, optional={
    "encoding": st.sampled_from(["linear16", "linear32", "opus"]), "sample_rate": st.sampled_from(["8000", "48000", "22051", "x"]),
    "channels": st.sampled_from(["1", "2", "0"]), "endpointing": st.sampled_from(["false", "300", "-1"]),
    "interim_results": st.just("true"), "offset": st.sampled_from(["0", "1e6", "nan", "-3"]), "keyterm": st.text(max_size=5),
    "x\n": st.text(max_size=3)})


@hypothesis.given(query=query, frames=st.lists(frame, max_size=6))
@hypothesis.settings(SETTINGS)
def test_websocket(running, sound, query, frames):
    from websockets.exceptions import ConnectionClosed

    client = Listener(running, **query)
    try:
        for one in frames:
            client.socket.send(one)
        client.send({"type": "CloseStream"})
    except (ConnectionClosed, UnicodeEncodeError):
        pass
    client.read()
    assert client.code in CODES and client.messages[-1]["type"] == ("Metadata" if client.code == 1000 else "Error"), client.messages[-1:]


request = st.one_of(st.binary(max_size=200), st.integers(0, 9000).map(lambda n: b"\x12" + _varint(2 * n) + GOOD[:2 * n]),
                    st.just(b"\x0a\x00"), st.just(b"\x18\x01"))


def _varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@hypothesis.given(requests=st.lists(request, max_size=6), configured=st.booleans())
@hypothesis.settings(SETTINGS)
def test_grpc(running, sound, requests, configured):
    grpc = pytest.importorskip("grpc", reason="the service needs the extra serve")
    refused = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}
    with grpc.insecure_channel(f"127.0.0.1:{running.server.grpc_port}") as channel:
        call = channel.stream_stream("/voxkit.v1.SpeechRecognition/StreamingRecognize")
        stream = call(iter([b"\x0a\x00", *requests] if configured else requests), timeout=20)
        try:
            list(stream)
        except grpc.RpcError:
            pass
        assert stream.code() in refused, (stream.code(), stream.details())
        whole = channel.unary_unary("/voxkit.v1.SpeechRecognition/Recognize")
        for one in requests[:2]:
            try:
                whole(one, timeout=20)
            except grpc.RpcError as error:
                assert error.code() in refused, (error.code(), error.details())
