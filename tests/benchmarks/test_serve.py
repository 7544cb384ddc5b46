"""The service under clients that behave badly, and with one of two replicas killed. VOXKIT_SOAK=300 takes five minutes."""

import os

import pytest

from tests.serve.tiny import make_artifact

pytest.importorskip("websockets", reason="the service needs the extra serve")
pytest.importorskip("onnx", reason="pip install 'voxkit[export]'")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return str(make_artifact(tmp_path_factory.mktemp("served") / "streaming", True))


@pytest.fixture(scope="module")
def recordings(real_corpus):
    from benchmarks.serve.talk import clips

    return clips(str(real_corpus / "LibriSpeech" / "dev-clean-2"), 4, 6.0)


@pytest.mark.parametrize("streaming, count", [(True, 50), (False, 10)])
def test_every_protocol_says_what_the_model_says(real_corpus, tmp_path, streaming, count):
    """Real speech; the model's words are random, so that every sample counts."""
    from benchmarks.serve.equal import compare
    from voxkit.audio.decode import read_mono

    paths = sorted((real_corpus / "LibriSpeech" / "dev-clean-2").rglob("*.flac"))[:count]
    report = compare(str(make_artifact(tmp_path / "artifact", streaming)), [read_mono(path)[0] for path in paths])
    assert report == {"utterances": count, "with text": count, "different": {"websocket": [], "grpc": [], "rest": []}}


def test_those_that_behave_hear_what_they_hear_alone(artifact, recordings):
    from benchmarks.serve.soak import soak

    report = soak(artifact, recordings, float(os.environ.get("VOXKIT_SOAK", "5")), 2, 3, "--max-delay", "10")
    assert report["problems"] == [] and report["clients"]["good"] >= 2 and len(report["clients"]) > 4, report


def test_a_killed_replica_loses_nothing(artifact, recordings):
    from benchmarks.serve.replicas import kill_one

    report = kill_one(artifact, recordings, 3.0)
    assert report["problems"] == [] and report["resumed at"] and report["utterances"] >= 4, report
