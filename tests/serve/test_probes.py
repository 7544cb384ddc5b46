"""What watches the service, who is let in, and TLS."""

import json
import ssl
import subprocess
import urllib.request

import pytest

from tests.serve.client import Listener, LoudnessVad
from tests.serve.tiny import pcm, wave
from voxkit.serve.live.sessions import LiveLimits
from voxkit.serve.tokens import Tokens

AUDIO = json.dumps({"audio": [0.0, 0.1, -0.1, 0.0] * 1000}).encode()


def _figures(running):
    status, page = running.ask_text("/metrics")
    assert status == 200
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))}


def test_figures_count_what_happens(serving, monkeypatch):
    monkeypatch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
    running = serving("streaming", live=LiveLimits(max_sessions=1))
    client = Listener(running, endpointing="false").audio(pcm(wave(1, 1.5)))
    client.read(lambda m: m["type"] == "Begin")
    Listener(running).read()
    assert _figures(running)['voxkit_sessions{protocol="listen"}'] == 1
    client.close()
    running.ask("POST", "/recognize", AUDIO)
    running.ask("POST", "/recognize", b"{")
    found = _figures(running)
    assert found["voxkit_audio_seconds_total"] == 1.5 and found["voxkit_finals_total"] == 1 and found["voxkit_waiting"] == 0
    assert found['voxkit_sessions{protocol="listen"}'] == 0 and found['voxkit_sessions_opened_total{protocol="listen"}'] == 1
    assert found['voxkit_sessions_refused_total{code="4429"}'] == found['voxkit_sessions_ended_total{code="1000"}'] == 1
    assert [found[f'voxkit_requests_total{{path="/recognize",status="{status}"}}'] for status in (200, 400)] == [1, 1]
    assert found["voxkit_result_seconds_count"] >= 1 and found["voxkit_round_seconds_count"] >= 1


def test_ready_says_whether_sessions_are_taken(serving):
    running = serving("streaming", live=LiveLimits(max_sessions=1))
    assert running.ask_text("/ready") == (200, "ready\n") and running.ask_text("/live") == (200, "live\n")
    client = Listener(running, endpointing="false")
    client.read(lambda m: m["type"] == "Begin")
    assert running.ask_text("/ready") == (503, "full\n") and running.ask_text("/live") == (200, "live\n")
    client.close()


def test_a_service_that_is_stuck_says_so(serving):
    running = serving("streaming")
    loop_task = running.service.sessions.host._task
    loop_task.get_loop().call_soon_threadsafe(loop_task.cancel)
    for _ in range(500):
        if running.ask_text("/live") == (503, "stuck\n"):
            return
    raise AssertionError("it says that it lives")


def test_the_demo_page_is_for_everybody(serving):
    running = serving("streaming", tokens=Tokens(["key"]))
    status, page = running.ask_text("/")
    assert status == 200 and "<html" in page.lower()
    assert running.ask_text("/static/page.js")[0] == 200 and running.ask_text("/static/../app.py")[0] in (401, 404)


def test_requests_show_their_token(serving, caplog):
    running = serving("streaming", tokens=Tokens(["open-sesame"]))
    for path in ("/live", "/ready", "/metrics"):
        assert running.ask_text(path)[0] == 200
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "open-sesame"}, {"Authorization": "Basic open-sesame"}):
        status, answer = running.ask("POST", "/recognize", AUDIO, headers)
        assert status == 401 and "Authorization: Bearer TOKEN" in answer["error"]
    assert running.ask("GET", "/info")[0] == running.ask("GET", "/health")[0] == 401
    assert running.ask("POST", "/v1/audio/transcriptions", b"x")[1]["error"]["type"] == "authentication_error"
    assert running.ask("POST", "/recognize", AUDIO, {"Authorization": "Bearer open-sesame"})[0] == 200
    assert running.ask("GET", "/info?token=open-sesame")[0] == 200
    assert "open-sesame" not in caplog.text


def test_tokens_of_a_file(tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text("# of the team\nabc-1   # the game\n\nxyz_2\n")
    tokens = Tokens.read(path)
    assert tokens.allow("Bearer abc-1") and tokens.allow("token xyz_2") and not tokens.allow("Bearer of") and not tokens.allow(None)
    for text, why in (("# none\n", "no token in it"), ("a b\n", "token 1 holds characters"), ("käse\n", "token 1 holds characters")):
        path.write_text(text)
        with pytest.raises(ValueError, match=why):
            Tokens.read(path)
    assert Tokens().allow(None)


def test_tls(backends, tmp_path):
    import threading

    from voxkit.serve.app import create_app
    from voxkit.serve.server import make_server

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(made, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    server = make_server(create_app(backends["streaming"]), port=0, certificate=str(certificate), key=str(key))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        port, context = server.servers[0].sockets[0].getsockname()[1], ssl.create_default_context(cafile=certificate)
        assert urllib.request.urlopen(f"https://localhost:{port}/live", context=context).read() == b"live\n"
        from websockets.sync.client import connect

        with connect(f"wss://localhost:{port}/v1/listen?endpointing=false", ssl=context) as socket:
            assert json.loads(socket.recv())["type"] == "Begin"
            socket.send(pcm(wave(1, 1.0)))
            socket.send('{"type": "CloseStream"}')
            assert json.loads(socket.recv())["channel"]["alternatives"][0]["transcript"]
    finally:
        server.should_exit = True
        thread.join(30)
