"""Labels by agreement, with two tiny recognizers on made audio: what is kept and why, thresholds, going on after a break."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import soundfile

from voxkit.audio.decode import AudioError
from voxkit.audio.media import read_media
from voxkit.data.manifests import load_cuts
from voxkit.eval.agreement import Filter, Label, agreement, compression, judge, thresholds
from voxkit.experiments.pseudo_label import PseudoLabelJob, pseudo_label
from voxkit.infer.labelers import Endpoint, open_labeler
from voxkit.optional import MissingPackage, available

WORDS = ("attack", "retreat", "hold", "base")


class Tones:
    """Hears tones: every third of a second whose pitch is 500, 1000, 1500 or 2000 Hz is a word. A deaf one takes one word for another."""

    def __init__(self, deaf=False):
        self.deaf, self.calls = deaf, 0

    def label(self, audio):
        self.calls += 1
        said, loud_ones = [], np.flatnonzero(np.abs(audio) > 0.02)
        audio = audio[loud_ones[0]:] if len(loud_ones) else audio
        for i in range(round(len(audio) / 5333)):
            piece = audio[i * 5333:(i + 1) * 5333]
            if np.mean(np.abs(piece) > 0.05) > 0.5:
                pitch = np.abs(np.fft.rfft(piece)).argmax() * 16000 / len(piece)
                said.append(WORDS[min(3, round(pitch / 500) - 1)])
        return Label(" ".join("halt" if self.deaf and word == "hold" else word for word in said), 0.9, "en")


def tones(*words):
    t = np.arange(5333) / 16000
    return np.concatenate([0.3 * np.sin(2 * np.pi * 500 * (WORDS.index(w) + 1) * t) if w else np.zeros(5333) for w in words])


def loud(audio):
    frames = np.pad(audio, (0, -len(audio) % 512)).reshape(-1, 512)
    return (np.abs(frames).max(1) > 0.05).astype(np.float32)


@pytest.fixture
def media(tmp_path):
    quiet = ("",) * 4
    for name, words in (("one", ("attack", "base", *quiet, "hold")), ("two", ("retreat", "base"))):
        soundfile.write(tmp_path / f"{name}.wav", tones(*quiet, *words, *quiet), 16000)
    return tmp_path


def job(media, *names, **more):
    return PseudoLabelJob(tuple(str(media / n) for n in names), str(media / "out"), ("first", "second"), **more)


def test_what_both_hear_is_kept(media):
    found = pseudo_label(job(media, "one.wav", "two.wav", license="ours"), labelers=[Tones(), Tones(deaf=True)], probabilities=loud)
    assert sorted(s.labels[0].text for s, _ in found.kept) == ["attack base", "retreat base"]
    assert [(s.labels[0].text, v.reason) for s, v in found.left_out] == [("hold", "the recognizers disagree")]
    cuts = list(load_cuts(media / "out/cuts_pseudo.jsonl.gz"))
    first = min(cuts, key=lambda cut: cut.supervisions[0].text)
    said = first.supervisions[0]
    assert said.text == "attack base" and said.custom["agreement"] == 1.0 and said.custom["license"] == "ours"
    assert said.custom["start"] == pytest.approx(4 / 3 - 0.2, abs=0.04) and first.duration == pytest.approx(2 / 3 + 0.4, abs=0.07)
    assert first.load_audio().shape[1] == first.num_samples
    page = (media / "out/index.html").read_text()
    assert page.count("<audio") == 3 and "the recognizers disagree" in page
    assert json.loads((media / "out/licenses.json").read_text())["pseudo"]["license"] == "ours"


def test_it_goes_on_where_it_was_broken_off(media):
    ears = [Tones(), Tones()]
    pseudo_label(job(media, "one.wav"), labelers=ears, probabilities=loud)
    heard = ears[0].calls
    labels = media / "out/labels.jsonl"
    labels.write_text(labels.read_text() + '{"media": "two.wav", "stamp": "ha')  # killed in the middle of a line
    found = pseudo_label(job(media, "one.wav", "two.wav"), labelers=ears, probabilities=loud)
    assert ears[0].calls == heard + 1 and len(found.kept) == 3
    stricter = pseudo_label(job(media, "one.wav", "two.wav", filter=Filter(confidence=0.95)), labelers=ears, probabilities=loud)
    assert ears[0].calls == heard + 1 and not stricter.kept and stricter.reasons == {"not confident": 3}
    with pytest.raises(ValueError, match="made with another method"):
        pseudo_label(job(media, "one.wav", method="joint"), labelers=ears, probabilities=loud)


def test_files_that_are_none_are_named_and_left_out(media):
    (media / "bad.wav").write_text("no audio")
    said = []
    found = pseudo_label(job(media, "bad.wav", "two.wav"), said.append, labelers=[Tones(), Tones()], probabilities=loud)
    assert list(found.failed) == [str(media / "bad.wav")] and len(found.kept) == 1 and "left out" in said[0]
    with pytest.raises(ValueError, match="no file could be labeled"):
        pseudo_label(job(media, "gone.wav"), labelers=[Tones(), Tones()], probabilities=loud)
    with pytest.raises(ValueError, match="two different ones"):
        pseudo_label(PseudoLabelJob(("x",), str(media / "o"), ("same", "same")))


def test_known_references_say_how_wrong_the_labels_are(media):
    (media / "ref.tsv").write_text("one\tattack base hold\ntwo\tretreat camp\n")
    found = pseudo_label(job(media, "one.wav", "two.wav", whole=True, references=str(media / "ref.tsv")), labelers=[Tones(), Tones(True)])
    rows = {row["filter"]: row for row in found.table}
    assert (rows["agreement >= 1"]["yield %"], rows["agreement >= 1"]["label WER %"]) == ("50.0", "50.00")
    assert (rows["agreement >= 0"]["yield %"], rows["agreement >= 0"]["label WER %"]) == ("100.0", "20.00")


@pytest.mark.parametrize(("first", "second", "seconds", "reason"), [
    ("go now", "GO, now!", 1.0, ""), ("go now", "go", 1.0, "the recognizers disagree"), ("", "", 1.0, "no words"),
    ("a b c d e f g h i j", "a b c d e f g h i x", 3.0, ""), ("one two three", "one two tree", 1.0, "the recognizers disagree"),
    ("go go go go go go go go go go go go go go go go go go go go go go", "go " * 22, 5.0, "it repeats itself"),
    ("hello", "hello", 30.0, "too slow for speech"), ("a b c d e", "a b c d e", 0.5, "too fast for speech"),
])
def test_the_filters(first, second, seconds, reason):
    assert judge(Label(first), Label(second), seconds).reason == reason


def test_languages_and_figures():
    assert judge(Label("ja", 1.0, "de"), Label("ja", 1.0, "en"), 1.0, Filter(language="en")).reason == "another language"
    assert agreement(["a", "b"], ["a"]) == 0.5 and agreement([], []) == 1.0 and compression("") == 0.0 < compression("abc")
    assert "agreement: 2" in " ".join(Filter(agreement=2).problems())
    assert thresholds([]) and all(row["yield %"] == "" for row in thresholds([]))


def test_media_that_soundfile_cannot_read(media):
    assert len(read_media(media / "two.wav")) == 5333 * 10
    (media / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(AudioError, match="ffmpeg"):
        read_media(media / "x.mp4")
    if shutil.which("ffmpeg"):
        subprocess.run(["ffmpeg", "-v", "error", "-i", media / "two.wav", media / "y.m4a"], check=True)
        assert abs(len(read_media(media / "y.m4a")) - 53330) < 4000


def test_a_service_labels_and_is_told_the_prompt(media):
    asked = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps({"text": " Hold ", "language": "en", "segments": [{"avg_logprob": -0.5}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            return None

    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/v1#tiny"
        label = open_labeler(address, prompt="ak forty seven").label(np.zeros(1600, np.float32))
    finally:
        server.shutdown()
        server.server_close()
    assert label.text == "Hold" and label.language == "en" and label.confidence == pytest.approx(np.exp(-0.5))
    path, body = asked[0]
    assert path == "/v1/audio/transcriptions" and b"ak forty seven" in body and b"tiny" in body and b"RIFF" in body
    with pytest.raises(ValueError, match="no transcript came"):
        Endpoint(address).label(np.zeros(160, np.float32))


@pytest.mark.skipif(available("faster_whisper"), reason="faster-whisper is installed")
def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(MissingPackage, match=r"voxkit\[label\]"):
        open_labeler("faster-whisper:tiny")
