"""gRPC: what it says is what the model says; what it refuses has a status; health and reflection."""

import threading

import numpy as np
import pytest

from tests.serve.client import LoudnessVad
from tests.serve.live.test_listen import MODELS, alone, game
from tests.serve.test_openai_rest import wav
from tests.serve.tiny import heard, pcm, wave
from voxkit.rate import RATE
from voxkit.serve.inputs import Limits
from voxkit.serve.live.sessions import LiveLimits
from voxkit.serve.tokens import Tokens

grpc = pytest.importorskip("grpc", reason="the service needs the extra serve")
pb = pytest.importorskip("voxkit.serve.voxkit_pb2", reason="the service needs the extra serve")
KEY = (("authorization", "Bearer key"),)


class Client:
    """A channel to a server; `asked`: the status that ended the last stream."""

    def __init__(self, running):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{running.server.grpc_port}")
        self.whole = self.channel.unary_unary("/voxkit.v1.SpeechRecognition/Recognize", pb.RecognizeRequest.SerializeToString,
                                              pb.RecognizeResponse.FromString)
        self.stream = self.channel.stream_stream("/voxkit.v1.SpeechRecognition/StreamingRecognize",
                                                 pb.StreamingRecognizeRequest.SerializeToString, pb.StreamingRecognizeResponse.FromString)
        self.status = None

    def hear(self, requests, metadata=()):
        """All responses of a stream."""
        call, found = self.stream(iter(requests), metadata=metadata, timeout=30), []
        try:
            found += call
        except grpc.RpcError:
            pass
        self.status, self.details = call.code(), call.details()
        return found


@pytest.fixture
def connect(serving, monkeypatch):
    monkeypatch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
    monkeypatch.setattr("voxkit.serve.live.segments.Vad", LoudnessVad)
    clients = []

    def start(model, **parts):
        running = serving(model, grpc_port=0, **parts)
        clients.append(Client(running))
        clients[-1].running = running
        return clients[-1]

    yield start
    for client in clients:
        client.channel.close()


def config(**options):
    plain = {name: options.pop(name) for name in ("encoding", "sample_rate_hertz", "audio_channel_count") if name in options}
    contexts = [pb.SpeechContext(**one) for one in options.pop("contexts", [])]
    endpointing = pb.EndpointingConfig(**options.pop("endpointing", {"disabled": True}))
    inner = pb.RecognitionConfig(enable_word_time_offsets=True, speech_contexts=contexts, **plain)
    asked = pb.StreamingRecognitionConfig(config=inner, endpointing_config=endpointing, **options)
    return pb.StreamingRecognizeRequest(streaming_config=asked)


def audio(data, piece=3200):
    return [pb.StreamingRecognizeRequest(audio_content=data[i:i + piece]) for i in range(0, len(data), piece)]


def finals(responses):
    return [result for response in responses for result in response.results if result.is_final]


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_the_model_says(connect, backends, model):
    client, data = connect(model), pcm(wave(3, 2.3))
    responses = client.hear([config(interim_results=True, offset_seconds=10.0), *audio(data)])
    assert client.status is grpc.StatusCode.OK
    (final,) = finals(responses)
    expected, (said,) = alone(backends[model], heard(data)), final.alternatives
    assert said.transcript == expected.text and (final.stability, final.start_seconds, final.audio_processed) == (1.0, 10.0, 12.3)
    assert [(w.word, w.start_seconds) for w in said.words] == [(w.word, pytest.approx(w.start + 10, abs=1e-3)) for w in expected.words]
    interim = [result for response in responses for result in response.results if not result.is_final]
    assert interim and all(result.stability < 1 and not result.alternatives[0].words for result in interim)


def test_pauses_and_finalize(connect):
    client = connect("streaming")
    responses = client.hear([config(endpointing={"stop_history_ms": 300}), *audio(game(1.0, 0.8)[0]), pb.StreamingRecognizeRequest(),
                             *audio(pcm(wave(3, 1.0))), pb.StreamingRecognizeRequest(finalize=True)])
    said = [result for result in finals(responses) if result.alternatives[0].transcript]
    assert [(r.speech_final, r.from_finalize) for r in said] == [(True, False), (True, False), (True, True)]
    assert sum(response.speech_started for response in responses) == 3


def test_streams_at_once_hear_their_own(connect, backends):
    client, found = connect("streaming"), {}
    clips = {seed: pcm(wave(seed, 1.0 + 0.2 * seed)) for seed in range(6)}
    threads = [threading.Thread(target=lambda s=seed: found.update({s: [
        r.alternatives[0].transcript for r in finals(client.stream(iter([config(), *audio(clips[s])])))]})) for seed in clips]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {seed: [alone(backends["streaming"], heard(data)).text] for seed, data in clips.items()}


@pytest.mark.parametrize("model", MODELS)
def test_one_utterance(connect, backends, model):
    client, samples = connect(model), wave(5, 1.7)
    for request in (pb.RecognizeRequest(audio=wav(samples)),
                    pb.RecognizeRequest(config=pb.RecognitionConfig(encoding=pb.FLOAT_PCM), audio=samples.tobytes())):
        response = client.whole(request)
        assert response.alternatives[0].transcript == alone(backends[model], samples).text
        assert response.audio_processed == pytest.approx(1.7) and not response.alternatives[0].words


@pytest.mark.parametrize("requests, status, why", [
    ([], "INVALID_ARGUMENT", "must be streaming_config"), (audio(bytes(320)), "INVALID_ARGUMENT", "must be streaming_config"),
    ([config(), config()], "INVALID_ARGUMENT", "only the first"), ([config(), *audio(bytes(321), 321)], "INVALID_ARGUMENT", "half of one"),
    ([config(sample_rate_hertz=44101)], "INVALID_ARGUMENT", "none of 8000"), ([config(encoding=9)], "INVALID_ARGUMENT", "encoding"),
    ([config(audio_channel_count=-1)], "INVALID_ARGUMENT", "none of 1, 2"),
    ([config(offset_seconds=-1)], "INVALID_ARGUMENT", "offset_seconds"),
    ([config(endpointing={"stop_history_ms": 1})], "INVALID_ARGUMENT", "stop_history_ms"),
    ([config(contexts=[{"phrases": ["§"]}])], "INVALID_ARGUMENT", "§"),
    ([config(contexts=[{"phrases": ["a"], "boost": 99}])], "INVALID_ARGUMENT", "boost"),
    ([config(encoding=2), pb.StreamingRecognizeRequest(audio_content=np.full(1600, np.nan, "<f4").tobytes())], "INVALID_ARGUMENT", "NaN"),
    ([config(), pb.StreamingRecognizeRequest(audio_content=bytes(4 * RATE))], "OUT_OF_RANGE", "a message of 2.00 s")])
def test_what_cannot_be_has_a_status(connect, requests, status, why):
    client = connect("streaming")
    client.hear(requests)
    assert client.status is getattr(grpc.StatusCode, status) and why in client.details


def test_one_utterance_that_cannot_be(connect):
    client = connect("whole", limits=Limits(max_seconds=2.0))
    for request, status, why in [
            (pb.RecognizeRequest(), "INVALID_ARGUMENT", "empty"), (pb.RecognizeRequest(audio=b"RIFFxx"), "INVALID_ARGUMENT", "audio"),
            (pb.RecognizeRequest(audio=wav(wave(1, 3.0))), "OUT_OF_RANGE", "longer than 2 s"),
            (pb.RecognizeRequest(config=pb.RecognitionConfig(encoding=1), audio=b"123"), "INVALID_ARGUMENT", "whole number of frames")]:
        with pytest.raises(grpc.RpcError) as error:
            client.whole(request)
        assert error.value.code() is getattr(grpc.StatusCode, status) and why in error.value.details()


def test_who_is_let_in(connect):
    client = connect("streaming", tokens=Tokens(["key"]), live=LiveLimits(max_sessions=0))
    client.hear([config()])
    assert client.status is grpc.StatusCode.UNAUTHENTICATED
    client.hear([config()], KEY)
    assert client.status is grpc.StatusCode.RESOURCE_EXHAUSTED and "sessions are under way" in client.details
    assert client.whole(pb.RecognizeRequest(audio=wav(wave(1))), metadata=KEY).alternatives[0].transcript


def test_who_says_nothing_and_who_is_gone(connect):
    client = connect("streaming", live=LiveLimits(idle=0.3))
    hold = threading.Event()

    def quiet():
        yield config()
        yield from audio(pcm(wave(1, 1.0)))
        hold.wait(20)

    responses = client.hear(quiet())
    hold.set()
    assert client.status is grpc.StatusCode.DEADLINE_EXCEEDED and finals(responses)[0].alternatives[0].transcript
    call = client.stream(iter([config(), *audio(pcm(wave(1, 1.0)))]))
    call.cancel()
    for _ in range(500):
        if not client.running.service.sessions.count:
            break
        threading.Event().wait(0.01)
    assert client.running.service.sessions.count == 0


def test_a_server_that_stops_says_what_it_heard(connect):
    client = connect("streaming", limits=Limits(drain=4.0))
    begun = threading.Event()

    def talk():
        yield config()
        yield from audio(pcm(wave(1, 1.0)))
        begun.set()
        threading.Event().wait(10)

    call, found = client.stream(talk()), []
    thread = threading.Thread(target=lambda: found.extend(_all(call)))
    thread.start()
    begun.wait(10)
    client.running.finish()
    thread.join(20)
    assert any(response.draining for response in found) and finals(found)[0].alternatives[0].transcript
    assert call.code() is grpc.StatusCode.UNAVAILABLE


def _all(call):
    try:
        yield from call
    except grpc.RpcError:
        return


def test_health_and_reflection(connect):
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    channel = connect("streaming").channel
    states = health_pb2_grpc.HealthStub(channel)
    for name in ("", "voxkit.v1.SpeechRecognition"):
        assert states.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    known = ProtoReflectionDescriptorDatabase(channel)
    assert "voxkit.v1.SpeechRecognition" in known.get_services()
    service = DescriptorPool(known).FindServiceByName("voxkit.v1.SpeechRecognition")
    assert [method.name for method in service.methods] == ["Recognize", "StreamingRecognize"]
