"""`voxkit serve` of an artifact: as a process of its own, where torch cannot be imported; and what an artifact does not take."""

import argparse
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.serve.client import Listener, transcript
from tests.serve.tiny import heard, make_artifact, pcm, wave
from voxkit.cli import serve
from voxkit.experiments.serving import application
from voxkit.runtime.recognizer import OnnxRecognizer
from voxkit.runtime.streaming import StreamingRecognizer

WITHOUT_TORCH = "import sys\nfor name in ('torch', 'torchaudio', 'lhotse', 'transformers'): sys.modules[name] = None\n" \
                "from voxkit.cli.main import main\nsys.exit(main(sys.argv[1:]))"


@pytest.fixture
def process(repository):
    """(arguments of `voxkit serve`) → the process, its port; killed with the test."""
    started = []

    def start(*arguments):
        one = subprocess.Popen([sys.executable, "-c", WITHOUT_TORCH, "serve", *map(str, arguments), "--port", "0"], cwd=repository,
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        started.append(one)
        for line in one.stderr:
            if found := re.search(r"running on http://127.0.0.1:(\d+)", line):
                return SimpleNamespace(process=one, port=int(found[1]))
        raise AssertionError("it did not start")

    yield start
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize("model", ["streaming", "whole"])
def test_an_artifact_is_served_without_torch_and_sigterm_loses_nothing(process, artifacts, model):
    running, data = process(artifacts[model], "--drain", "4"), pcm(wave(2, 1.6))
    client = Listener(running, endpointing="false").audio(data)
    client.read(lambda m: m["type"] == "Begin")
    running.process.send_signal(signal.SIGTERM)
    client.read()
    if model == "streaming":
        session = StreamingRecognizer(artifacts[model]).session(endpointing=None)
        session.accept(heard(data))
        expected = session.finalize()[-1].hypothesis.text
    else:
        expected = OnnxRecognizer(artifacts[model]).transcribe(heard(data)).text
    said = client.finals[-1]
    assert client.code == 4503 and said["start"] + said["duration"] <= 1.6
    if said["duration"] == 1.6:  # all of it had arrived
        assert transcript(said) == expected
    assert running.process.wait(20) == -signal.SIGTERM  # drained, then ended by what it was told


def _job(*arguments):
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return serve._job(parser.parse_args(["serve", *map(str, arguments)]))


def test_options_reach_the_service(artifacts, tmp_path):
    (tmp_path / "tokens").write_text("abc\n")
    job = _job(artifacts["streaming"], "--max-sessions", 3, "--max-delay", 0.5, "--idle-timeout", 4, "--session-seconds", 50,
               "--tokens-file", tmp_path / "tokens", "--method", "prefix_beam", "--beam", 3, "--max-seconds", 7, "--head-timeout", 2)
    service = application(job).state.service
    live, backend = service.config.live, service.backend
    assert (live.max_sessions, live.idle, live.session_seconds, service.config.limits.head_timeout) == (3, 4.0, 50.0, 2.0)
    assert service.config.tokens.allow("Bearer abc") and not service.config.tokens.allow(None)
    assert (backend.method, backend.streaming.options.beam) == ("prefix_beam", 3)
    assert (service.sessions.host.limits.utterance, service.sessions.host.limits.delay) == (7.0, 0.5)


@pytest.mark.parametrize("model, options, why", [
    ("whole", ["--method", "joint"], "method 'joint' is none of greedy, prefix_beam"),
    ("streaming", ["--graph", "HLG.pt"], "--graph: .* is an artifact"), ("streaming", ["--calibration", "c.json"], "--calibration"),
    ("whole", ["--second", "x"], "--second goes with a streaming artifact"),
    ("streaming", ["--second", "SELF"], "a second pass reads whole utterances")])
def test_what_an_artifact_does_not_take(artifacts, model, options, why):
    given = [str(artifacts[model]) if option == "SELF" else option for option in options]
    with pytest.raises(ValueError, match=why):
        application(_job(artifacts[model], *given))


def test_a_second_pass_says_the_final_text(artifacts, serving):
    service = application(_job(artifacts["streaming"], "--second", artifacts["whole"])).state.service
    data = pcm(wave(4, 2.0))
    client = Listener(serving(service.backend), endpointing="false", interim_results="true").audio(data).close()
    assert client.text == OnnxRecognizer(artifacts["whole"]).transcribe(heard(data)).text
    interim = [transcript(m) for m in client.of("Results") if not m["is_final"]]
    assert interim and interim[-1] != client.text


def test_one_file_sets_up_both_passes(artifacts, serving, tmp_path):
    """`voxkit serve --config`: what the options say one by one, and the silence that ends an utterance."""
    config = tmp_path / "inference.yaml"
    config.write_text(f"model: {artifacts['streaming']}\nsecond: {artifacts['whole']}\nsecond_search: {{method: greedy}}\n"
                      "endpointing: {silence: 0.7, longest: 9}\n")
    service = application(_job("--config", config)).state.service
    assert service.sessions.host.limits.endpointing.longest == 9
    data = pcm(wave(4, 2.0))
    running = serving(service.backend, live=service.config.live)
    client = Listener(running, endpointing="false").audio(data).close()
    assert client.text == OnnxRecognizer(artifacts["whole"]).transcribe(heard(data)).text
    assert Listener(running).read(lambda m: m["type"] == "Begin")["endpointing"] == 700


@pytest.mark.parametrize("options, why", [
    (["--config", "c.yaml", "--second", "exp/onnx"], "--second: c.yaml says how to search"),
    (["exp/live", "--config", "c.yaml"], "one of them"), ([], "name an artifact or a checkpoint")])
def test_a_file_of_options_stands_alone(options, why):
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    with pytest.raises(ValueError, match=why):
        serve.run(parser.parse_args(["serve", *options]))


def test_phrases_that_the_second_pass_cannot_spell_are_refused(artifacts, serving, tmp_path):
    second = make_artifact(tmp_path / "second", False, ["heal me now"])
    backend = application(_job(artifacts["streaming"], "--second", second)).state.service.backend
    with pytest.raises(ValueError, match="push"):
        backend.check_phrases(["push"], 1.5)
    running = serving(backend)
    refused = Listener(running, endpointing="false", keyterm="push")
    refused.read()
    assert refused.code == 4400 and "push" in refused.messages[-1]["message"]
    client = Listener(running, endpointing="false").send({"type": "Configure", "keyterms": ["push"]})
    assert "push" in client.read(lambda m: m["type"] == "ConfigureFailure")["description"]
    assert client.audio(pcm(wave(4, 1.0))).close().text and client.code == 1000
