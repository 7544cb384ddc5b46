"""Small recognizers with random weights, and a real server in a thread."""

import contextlib
import http.client
import json
import threading
from dataclasses import dataclass, field

import pytest
import torch

from tests.serve.tiny import make_artifact
from voxkit import config as configuration
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.run_config import make_setup
from voxkit.serve.onnx_backend import OnnxBackend, StreamingBackend
from voxkit.serve.torch_backend import TorchBackend
from voxkit.text.sentencepiece import train_characters

MODELS = {
    "paraformer": {"front_end": {"kind": "stacked", "fbank_bins": 16, "stack": 4, "stride": 4, "subsampling_dim": 16},
                   "encoder": {"kind": "conformer", "dim": 16, "heads": 2, "ffn": 24, "layers": 1},
                   "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}},
    "voxformer": {"front_end": {"kind": "fbank", "fbank_bins": 16, "subsampling_dim": 96}, "encoder": {"preset": "toy"},
                  "decoder": {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}},
}


@pytest.fixture(scope="session")
def recognizers(tmp_path_factory):
    tokenizer = train_characters(["heal me now", "push the left lane"], tmp_path_factory.mktemp("tokens"))
    out = {}
    for system, model in MODELS.items():
        torch.manual_seed(0)
        setup = make_setup(configuration.OmegaConf.create({"system": system, "model": model}))
        out[system] = Recognizer(setup.build_model(tokenizer.size).eval(), tokenizer)
    return out


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """Directories of a streaming artifact and of one over whole utterances."""
    pytest.importorskip("onnx", reason="pip install 'voxkit[export]'")
    pytest.importorskip("onnxruntime", reason="pip install 'voxkit[runtime]'")
    folder = tmp_path_factory.mktemp("served")
    return {"streaming": make_artifact(folder / "streaming", True), "whole": make_artifact(folder / "whole", False)}


@pytest.fixture(scope="session")
def backends(recognizers, artifacts):
    """What can be served, by name: checkpoints, artifacts."""
    from voxkit.runtime.artifact import Artifact
    from voxkit.runtime.recognizer import OnnxRecognizer

    out = {name: TorchBackend(recognizer, SearchOptions()) for name, recognizer in recognizers.items()}
    out["streaming"] = StreamingBackend(Artifact(artifacts["streaming"], threads=1))
    out["whole"] = OnnxBackend(OnnxRecognizer(artifacts["whole"], threads=1))
    return out


@dataclass
class Running:
    """A server: its port, its application's parts, and the end of it."""

    server: object
    thread: threading.Thread
    port: int
    app: object
    threads: list = field(default_factory=list)

    @property
    def service(self):
        return self.app.state.service

    def ask(self, method, path, body=None, headers=None):
        """(status, JSON of the answer)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def ask_text(self, path):
        """(status, text of the answer)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def later(self, *request):
        """Ask from a thread of its own → a list that gets the answer."""
        got = []
        self.threads.append(threading.Thread(target=lambda: got.append(self.ask(*request)), daemon=True))
        self.threads[-1].start()
        return got

    def finish(self):
        """Tell it to stop, as SIGTERM does, and wait until it has."""
        self.server.should_exit = True
        self.thread.join(30)
        for thread in self.threads:
            thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def serving(backends):
    """(name of a backend, or one; ServeConfig's parts) → Running; ended with the test."""
    pytest.importorskip("uvicorn", reason="the service needs the extra serve")
    from voxkit.serve.app import ServeConfig, create_app
    from voxkit.serve.server import make_server

    started = []

    def start(backend="paraformer", grpc_port=None, **parts):
        app = create_app(backends[backend] if isinstance(backend, str) else backend, ServeConfig(**parts))
        server = make_server(app, port=0, log_level="info", grpc_port=grpc_port)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        started.append(Running(server, thread, server.servers[0].sockets[0].getsockname()[1], app))
        return started[-1]

    yield start
    for running in started:
        running.finish()
