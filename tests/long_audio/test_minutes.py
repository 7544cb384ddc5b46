"""What has to take any length: reading, resampling, streaming, alignment, search over many frames, scoring; memory is limited outside."""

import torch

from tests.long_audio.conftest import MINUTES
from voxkit.align.ctc import forced_align
from voxkit.audio.decode import read_mono
from voxkit.audio.fbank import Fbank
from voxkit.eval.wer import score
from voxkit.infer.streaming import StreamingRecognizer, stream_recording
from voxkit.search.options import SearchOptions
from voxkit.search.prefix_beam import ctc_prefix_beam

FRAMES = MINUTES * 60 * 25  # at 40 ms


def _peaked(vocabulary=30):
    generator = torch.Generator().manual_seed(0)
    return (4 * torch.randn(1, FRAMES, vocabulary, generator=generator)).log_softmax(-1)


def test_reading_and_resampling(recording):
    audio, seconds = read_mono(recording)
    assert seconds == 60 * MINUTES and abs(len(audio) - 16000 * seconds) <= 1 and 0.01 < float(audio.std()) < 0.05


def test_features(recording):
    audio = torch.from_numpy(read_mono(recording)[0])
    features, lengths = Fbank()(audio[None], torch.tensor([len(audio)]))
    assert abs(int(lengths[0]) - 6000 * MINUTES) <= 2 and features[0, -3:].isfinite().all()


def test_streaming(recognizer, recording):
    """An utterance that does not end: what the recognizer carries on does not grow with it."""
    stream = StreamingRecognizer(recognizer, SearchOptions("greedy"))
    audio = torch.from_numpy(read_mono(recording)[0])[:16000 * 40]
    heard = list(stream_recording(stream, audio))
    assert heard[-1][2] and abs(heard[-1][0] - 40) < 0.1


def test_alignment():
    log_probs = _peaked()
    tokens = torch.randint(1, 30, (1, FRAMES // 6), generator=torch.Generator().manual_seed(1))
    found = forced_align(log_probs, torch.tensor([FRAMES]), tokens, torch.tensor([tokens.shape[1]]))[0]
    assert [span.token for span in found.spans] == tokens[0].tolist()


def test_prefix_beam():
    found = ctc_prefix_beam(_peaked(), torch.tensor([FRAMES]), 8)[0]
    assert len(found[0].tokens) > FRAMES / 4


def test_scoring():
    words = [f"w{(i * 7919) % 500}" for i in range(30_000)]
    heard = [word for i, word in enumerate(words) if i % 10]
    assert score({"u": " ".join(words)}, {"u": " ".join(heard)}).deletions == 3000
