"""A real server at a real socket: whatever clients send, or do not send, it answers, ends and forgets."""

import io
import json
import logging
import socket
import struct
import threading

import numpy as np
import pytest
import soundfile

fastapi = pytest.importorskip("fastapi", reason="the service needs the extra serve")
from voxkit.serve.batcher import BatchingConfig  # noqa: E402
from voxkit.serve.inputs import Limits, file_from  # noqa: E402
from voxkit.serve.stopping import Stopped  # noqa: E402

AUDIO = json.dumps({"audio": [0.0, 0.1, -0.1, 0.0] * 1000}).encode()


def _wav(samples=8000, rate=16000, subtype="PCM_16", value=None):
    memory, wave = io.BytesIO(), np.random.default_rng(0).normal(0, 0.1, samples).astype("float32")
    if value is not None:
        wave[samples // 2] = value
    soundfile.write(memory, wave, rate, format="WAV", subtype=subtype)
    return memory.getvalue()


def _opus():
    memory = io.BytesIO()
    soundfile.write(memory, np.random.default_rng(0).normal(0, 0.1, 16000), 16000, format="OGG", subtype="OPUS")
    return memory.getvalue()


def _until(condition):
    """Wait for what other threads do; the limit only ends a test that fails."""
    for _ in range(1000):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False


def _raw(running, data):
    client = socket.create_connection(("127.0.0.1", running.port), timeout=30)
    client.sendall(data)
    return client


def _rest(client):
    with client:
        found = b""
        while piece := client.recv(4096):
            found += piece
        return found


HALF_BODY = b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"audio\": [0.0,"


@pytest.mark.parametrize("rate", [8000, 11025, 16000.0, 22050, 22051, 44100, 44101, 47999, 96000, 191999])
def test_any_rate_is_taken_or_refused(serving, rate):
    running = serving(limits=Limits(max_seconds=2.0))
    samples = (np.sin(np.arange(int(rate)) / 9) / 2).round(4).tolist()
    for path, body in (("/recognize", json.dumps({"audio": samples, "rate": rate})), ("/recognize/file", _wav(int(rate), int(rate)))):
        status, answer = running.ask("POST", path, body)
        assert status == 200 and answer["audio_duration"] == pytest.approx(1.0, abs=0.01), answer


def _header(rate, channels=1):
    wav = bytearray(_wav())
    wav[22:24], wav[24:28] = struct.pack("<H", channels), struct.pack("<I", rate)
    return bytes(wav)


@pytest.mark.parametrize("body, said", [
    (_wav(subtype="FLOAT", value=np.nan), "NaN"), (_wav(subtype="FLOAT", value=np.inf), "infinit"),
    (_wav(subtype="FLOAT", value=3e38), "between -1 and 1"), (_wav(subtype="FLOAT", value=20000.0), "20000"),
    (_wav(0), "no samples"), (b"", "the body is empty"), (b"RIFF", "cannot be read"), (_wav()[:40], ""),
    (_wav()[:8000], "truncated"), (_opus()[:2000], "truncated"), (_wav(subtype="FLOAT")[:-9000], "truncated"),
    (_wav(100), "too short"),
    (_header(2_000_000_000), "2000000000 samples per second"), (_header(1), "1 samples per second"), (_header(16000, 400), "400 channels")])
def test_files_that_cannot_be_are_refused_by_name(serving, body, said):
    status, answer = serving(limits=Limits(max_seconds=2.0)).ask("POST", "/recognize/file", body)
    assert 400 <= status < 500 and said in answer["error"], answer


@pytest.mark.parametrize("body, status, said", [
    (b'{"a\\ud800": 1, "audio": [0.0]}', 422, "half a surrogate pair"), (b'{"audio": "\\udc00"}', 422, "half a surrogate pair"),
    (b'{"audio": [0.0], "x": "\\ud83d"}', 422, "half a surrogate pair"), (b'{"audio": [0.0], "rate": 1e999}', 422, "rate: inf"),
    (b'{"audio": [0.0], "rate": 16000.5}', 422, "rate: 16000.5"), (b'{"audio": [0.0], "rate": true}', 422, "rate: true"),
    (b'{"audio": [3e38]}', 422, "audio[0]: 3e+38 is not between"), (b'{"audio": [' + b"9" * 4000 + b"]}", 422, "audio[0]"),
    (b'{"audio": [' + b"9" * 5000 + b"]}", 400, "not JSON"), (b'{"audio": [0.0]', 400, "not JSON")])
def test_bodies_that_cannot_be_are_refused_by_name(serving, body, status, said):
    found, answer = serving().ask("POST", "/recognize", body)
    assert found == status and said in answer["error"], answer


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "Multipart/Form-Data; boundary=x", " MULTIPART/mixed"])
def test_forms_are_refused_in_any_case(serving, kind):
    status, answer = serving().ask("POST", "/recognize/file", b"--x--", {"Content-Type": kind})
    assert status == 415 and "curl --data-binary" in answer["error"]


def test_a_packed_body_is_refused(serving):
    status, answer = serving().ask("POST", "/recognize", b"x", {"Content-Encoding": "gzip"})
    assert status == 415 and "Content-Encoding" in answer["error"]


def test_health_answers_while_bodies_are_read(serving, monkeypatch):
    """Parsing and decoding happen in threads: with all of these busy the event loop is free."""
    free, reading = threading.Event(), []

    def slow(body, limits):
        reading.append(threading.current_thread().name)
        assert free.wait(20)
        return file_from(body, limits)

    monkeypatch.setattr("voxkit.serve.rest.file_from", slow)
    running = serving()
    waiting = [running.later("POST", "/recognize/file", _wav()) for _ in range(4)]
    assert _until(lambda: len(reading) == 2) and all("voxkit-reader" in name for name in reading)
    assert running.ask("GET", "/health")[1]["status"] == "ok" and not any(waiting)
    free.set()
    assert _until(lambda: all(waiting)) and all(got[0][0] == 200 for got in waiting)
    assert running.service.requests.held == 0


def test_a_reading_that_takes_too_long_is_within_the_time_limit(serving, monkeypatch):
    free = threading.Event()
    monkeypatch.setattr("voxkit.serve.rest.file_from", lambda body, limits: (free.wait(20), file_from(body, limits))[1])
    running = serving(limits=Limits(timeout=0.2))
    status, answer = running.ask("POST", "/recognize/file", _wav())
    free.set()
    assert status == 504 and "no result within 0.2 s" in answer["error"]


def _held(monkeypatch):
    """A model that works until it is told not to, or let go: (let go, begun)."""
    free, begun = threading.Event(), []

    def recognize(backend, items, asked, unwanted):
        from voxkit.hypothesis import Hypothesis

        begun.append(len(items))
        while not free.is_set():
            if unwanted.wait(0.01):
                raise Stopped
        return [Hypothesis("heal") for _ in items]

    monkeypatch.setattr("voxkit.serve.torch_backend.TorchBackend.recognize", recognize)
    return free, begun


def test_after_the_time_limit_the_model_does_not_go_on(serving, monkeypatch):
    _, begun = _held(monkeypatch)
    running = serving(limits=Limits(timeout=0.3))
    status, answer = running.ask("POST", "/recognize", AUDIO)
    assert status == 504 and "no result within 0.3 s" in answer["error"]
    assert _until(lambda: running.service.batcher.ended == len(begun) == 1)
    assert running.ask("GET", "/health")[1] == {"status": "ok", "requests": 1, "batches": 1, "waiting": 0, "ended": 1, "calibrated": False,
                                                "sessions": 0}


def test_work_of_clients_that_left_is_dropped(serving, monkeypatch, caplog):
    free, begun = _held(monkeypatch)
    running = serving(batching=BatchingConfig(max_batch=1, max_wait=0.0))
    request = b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(AUDIO), AUDIO)
    computed = _raw(running, request)
    assert _until(lambda: begun)
    waiting = [_raw(running, request) for _ in range(7)]
    assert _until(lambda: running.service.batcher.waiting == 7)
    with caplog.at_level(logging.INFO):
        for client in waiting:
            client.close()
        assert _until(lambda: running.service.batcher.waiting == 0)
        computed.close()
        assert _until(lambda: running.service.batcher.ended == 1)
        free.set()
        assert running.ask("POST", "/recognize", AUDIO)[0] == 200
    assert begun == [1, 1]
    assert "Traceback" not in caplog.text and "Exception" not in caplog.text and "the client left before its answer" in caplog.text


@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_leaves_during_its_upload_is_forgotten(serving, caplog, reset):
    running = serving()
    with caplog.at_level(logging.INFO):
        client = _raw(running, HALF_BODY)
        assert _until(lambda: running.service.requests.held > 0)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert _until(lambda: running.service.requests.held == 0)
        assert running.ask("GET", "/health")[0] == 200
    assert "Traceback" not in caplog.text and "Exception" not in caplog.text


def test_half_a_body_ends(serving):
    running = serving(limits=Limits(upload_timeout=0.2))
    answer = _rest(_raw(running, HALF_BODY))
    assert answer.startswith(b"HTTP/1.1 408") and b"the body was not there within 0.2 s" in answer
    assert b"connection: close" in answer.lower()
    assert running.service.requests.held == 0


@pytest.mark.parametrize("head", [b"", b"POST /reco", b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Le"])
def test_half_a_head_ends(serving, head):
    running = serving(limits=Limits(head_timeout=0.2))
    clients = [_raw(running, head) for _ in range(5)]
    assert all(_rest(client).startswith(b"HTTP/1.1 408") for client in clients)
    assert _until(lambda: not running.server.server_state.connections)


def test_half_a_head_after_a_whole_request_ends(serving):
    running, whole = serving(limits=Limits(head_timeout=0.2)), b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    together, apart = _raw(running, whole + b"GET /hea"), _raw(running, whole)
    first = apart.recv(4096)
    apart.sendall(b"GET /hea")
    assert first.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in _rest(apart)
    assert _rest(together).startswith(b"HTTP/1.1 200")
    assert _until(lambda: not running.server.server_state.connections)


def test_a_request_longer_than_the_head_may_take_is_answered(serving, monkeypatch):
    free, begun = _held(monkeypatch)
    running = serving(limits=Limits(head_timeout=0.1))
    got = running.later("POST", "/recognize", AUDIO)
    assert _until(lambda: begun)
    threading.Event().wait(0.3)  # three limits of the head go by
    free.set()
    assert _until(lambda: got) and got[0][0] == 200


def test_bodies_on_their_way_are_bounded_together(serving):
    running = serving(limits=Limits(max_held=30))
    first = _raw(running, HALF_BODY)
    assert _until(lambda: running.service.requests.held > 0)
    answer = _rest(_raw(running, HALF_BODY + b"0.0, 0.0, 0.0"))
    assert answer.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in answer.lower()
    first.close()
    assert _until(lambda: running.service.requests.held == 0)


def test_a_server_told_to_stop_answers_what_has_arrived(serving, monkeypatch, caplog):
    """A half-sent body does not hold it up beyond the limit, and what is computed is answered."""
    free, begun = _held(monkeypatch)
    running = serving(limits=Limits(drain=1.0))
    half, got = _raw(running, HALF_BODY), running.later("POST", "/recognize", AUDIO)
    assert _until(lambda: begun and running.service.requests.held > 0)
    running.server.should_exit = True
    free.set()
    running.finish()
    assert got[0][0] == 200 and got[0][1]["text"] == "heal"
    assert _rest(half).startswith(b"HTTP/1.1 503")
    assert "Traceback" not in caplog.text and "Cancel" not in caplog.text


def test_a_server_told_to_stop_stops_though_the_model_works(serving, monkeypatch, caplog):
    _, begun = _held(monkeypatch)
    running = serving(limits=Limits(drain=0.3))
    got = running.later("POST", "/recognize", AUDIO)
    assert _until(lambda: begun)
    running.finish()
    assert got[0][0] == 503 and "the service stops" in got[0][1]["error"] and "Traceback" not in caplog.text


def test_what_is_no_http_is_refused(serving):
    running = serving()
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a" * 70000):
        assert _rest(_raw(running, garbage + b"\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert running.ask("GET", "/health")[0] == 200
