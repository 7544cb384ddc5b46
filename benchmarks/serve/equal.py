"""The same utterances through every protocol, against the model itself: `python -m benchmarks.serve.equal ARTIFACT --audio FOLDER`.

Endpointing is off; each utterance is one of WebSocket, gRPC and OpenAI's REST, and the texts must be those of the artifact asked directly.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import urllib.request
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.serve.talk import RATE, Server, pcm, talk
from voxkit.audio.decode import EXTENSIONS, read_mono
from voxkit.runtime.artifact import Artifact
from voxkit.runtime.recognizer import OnnxRecognizer
from voxkit.runtime.streaming import StreamingRecognizer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--audio", required=True, metavar="FOLDER", help="utterances")
    parser.add_argument("--count", type=int, default=50)
    arguments = parser.parse_args()
    paths = sorted(path for path in Path(arguments.audio).rglob("*") if path.suffix.lower() in EXTENSIONS)[:arguments.count]
    report = compare(arguments.artifact, [read_mono(path)[0] for path in paths])
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return int(any(report["different"].values()))


def compare(artifact: str, audios: list[np.ndarray]) -> dict:
    """Utterances [S] float at 16 kHz → how many there are, and which were heard otherwise, by protocol."""
    data = [pcm(audio) for audio in audios]
    expected = offline(artifact, [np.frombuffer(one, "<i2").astype(np.float32) / np.float32(32768) for one in data])
    server = Server(artifact, "--grpc-port", "0", "--max-seconds", "120")
    try:
        found = {"websocket": asyncio.run(_by_websocket(server, audios)), "grpc": _by_grpc(server, data), "rest": _by_rest(server, data)}
    finally:
        server.stop()
    different = {way: [f"{i}: {text!r} and not {right!r}" for i, (text, right) in enumerate(zip(texts, expected)) if text != right]
                 for way, texts in found.items()}
    return {"utterances": len(audios), "with text": sum(map(bool, expected)), "different": different}


def offline(artifact: str, audios: list[np.ndarray]) -> list[str]:
    """What the artifact says when it is asked directly."""
    if Artifact(artifact).streaming is None:
        recognizer = OnnxRecognizer(artifact, threads=1)
        return [recognizer.transcribe(audio).text for audio in audios]
    streaming, texts = StreamingRecognizer(artifact), []
    for audio in audios:
        session = streaming.session(endpointing=None)
        texts.append([*session.accept(audio), *session.finalize()][-1].hypothesis.text)
    return texts


async def _by_websocket(server: Server, audios: list[np.ndarray]) -> list[str]:
    gate = asyncio.Semaphore(8)

    async def one(audio: np.ndarray) -> str:
        async with gate:
            return " ".join((await talk(server.port, audio, speed=0, endpointing="false")).texts)

    return list(await asyncio.gather(*map(one, audios)))


def _by_grpc(server: Server, data: list[bytes]) -> list[str]:
    import grpc

    from voxkit.serve import voxkit_pb2 as pb

    first = pb.StreamingRecognizeRequest(streaming_config=pb.StreamingRecognitionConfig(
        config=pb.RecognitionConfig(encoding=pb.LINEAR_PCM), endpointing_config=pb.EndpointingConfig(disabled=True)))
    texts = []
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.stream_stream("/voxkit.v1.SpeechRecognition/StreamingRecognize", pb.StreamingRecognizeRequest.SerializeToString,
                                     pb.StreamingRecognizeResponse.FromString)
        for one in data:
            pieces = [pb.StreamingRecognizeRequest(audio_content=one[i:i + RATE]) for i in range(0, len(one), RATE)]
            results = [result for response in call(iter([first, *pieces])) for result in response.results if result.is_final]
            texts.append(" ".join(result.alternatives[0].transcript for result in results))
    return texts


def _by_rest(server: Server, data: list[bytes]) -> list[str]:
    """As any HTTP client would ask; OpenAI's own is asked in tests/serve/test_openai_rest.py."""
    texts = []
    for one in data:
        memory = io.BytesIO()
        soundfile.write(memory, np.frombuffer(one, "<i2"), RATE, format="WAV", subtype="PCM_16")
        body = b"".join([b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nvoxkit\r\n',
                         b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n', memory.getvalue(),
                         b"\r\n--x--\r\n"])
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v1/audio/transcriptions", body,
                                         {"Content-Type": "multipart/form-data; boundary=x"})
        texts.append(json.loads(urllib.request.urlopen(request, timeout=60).read())["text"])
    return texts


if __name__ == "__main__":
    raise SystemExit(main())
