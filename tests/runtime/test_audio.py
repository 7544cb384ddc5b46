"""Audio on its way to the runtime: other rates in pieces, voice activity, segments, where utterances end."""

import numpy as np
import pytest

from voxkit.audio.resample import resample
from voxkit.runtime.endpoint import Endpointer, Endpointing
from voxkit.runtime.resample import ResampleStream
from voxkit.runtime.segments import SegmentOptions, speech_segments
from voxkit.runtime.vad import FRAME, Vad, find_weights


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 44101, 48000])
def test_resampling_in_pieces(rate):
    random = np.random.default_rng(rate)
    audio = random.standard_normal(rate + 17).astype(np.float32)
    stream, parts, at = ResampleStream(rate), [], 0
    while at < len(audio):
        size = int(random.integers(0, rate // 7))
        parts.append(stream.accept(audio[at:at + size]))
        at += size
    parts.append(stream.accept(audio[:0], final=True))
    np.testing.assert_allclose(np.concatenate(parts), resample(audio, rate, 16000), atol=1e-5)
    assert len(stream.kept) < 2 * rate


@pytest.fixture(scope="module")
def vad():
    try:
        find_weights()
    except ImportError as error:
        pytest.skip(str(error))
    return Vad()


def test_speech_is_told_from_silence_and_noise(vad, real_corpus):
    import soundfile

    path = sorted((real_corpus / "LibriSpeech").rglob("*.flac"))[3]
    speech = soundfile.read(path, dtype="float32")[0]
    noise = 0.01 * np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    wave = np.concatenate([noise, speech, noise])
    p = vad.probabilities(wave)
    assert len(p) == -(-len(wave) // FRAME)
    assert p[:50].max() < 0.5 and np.mean(p[70:-70] > 0.5) > 0.6
    stream = vad.stream()
    parts = [stream.accept(wave[i:i + 777]) for i in range(0, len(wave), 777)]
    np.testing.assert_allclose(np.concatenate(parts), p[:sum(map(len, parts))], atol=1e-6)
    segments = speech_segments(p, len(wave))
    assert segments and segments[0][0] > 16000 and segments[-1][1] < len(wave) - 16000


def test_segments():
    p = np.zeros(400, np.float32)
    p[50:100], p[103:150], p[200:203], p[300:390] = 0.9, 0.9, 0.9, 0.9
    p[340] = 0.4  # the least likely place of the last one
    options = SegmentOptions(silence=0.5, pad=0.1, shortest=0.2, longest=1.5)
    found = speech_segments(p, 400 * FRAME, options)
    longest = int(1.5 * 16000 / FRAME) * FRAME + 2 * 1600
    assert all(stop - start <= longest for start, stop in found)
    assert all(stop <= start for (_, stop), (start, _) in zip(found, found[1:]))
    covered = np.zeros(400, bool)
    for start, stop in found:
        covered[start // FRAME:-(-stop // FRAME)] = True
    assert covered[50:150].all() and covered[300:390].all() and not covered[200:203].any() and not covered[170:290].any()
    assert any(stop == 341 * FRAME for _, stop in found)
    assert speech_segments(np.zeros(10), 10 * FRAME) == []
    with pytest.raises(ValueError, match="0 < until <= threshold < 1; longest: 0.1 s"):
        speech_segments(p, 1, SegmentOptions(until=0.9, longest=0.1))


class _Loud:
    """In the place of the network: speech is what is loud."""

    def stream(self):
        return _LoudStream()


class _LoudStream:
    def __init__(self):
        self.waiting = np.zeros(0, np.float32)

    def accept(self, audio):
        self.waiting = np.concatenate([self.waiting, audio])
        whole = len(self.waiting) // FRAME * FRAME
        frames, self.waiting = self.waiting[:whole].reshape(-1, FRAME), self.waiting[whole:]
        return np.abs(frames).max(1, initial=0.0)


@pytest.mark.parametrize("piece", [100, 512, 8000, 200000])
def test_endpoints(piece):
    """Silence behind speech ends an utterance; its audio is what was said, half a second before it included."""
    wave = np.zeros(10 * 16000, np.float32)
    wave[32000:48000], wave[80000:96000] = 0.8, 0.8
    wave += np.arange(len(wave)) * 1e-9  # every sample is another
    endpointer, pieces = Endpointer(_Loud(), Endpointing(silence=0.5)), []
    for i in range(0, len(wave), piece):
        pieces += endpointer.accept(wave[i:i + piece])
    pieces += endpointer.finish()
    utterances = []
    for start, audio, ends in pieces:
        if not utterances or utterances[-1][2]:
            utterances.append([start, audio, ends])
        else:
            utterances[-1][1:] = [np.concatenate([utterances[-1][1], audio]), ends]
    assert len(utterances) == 2 and all(ends for _, _, ends in utterances)
    for (start, audio, _), (begin, end) in zip(utterances, ((32000, 48000), (80000, 96000))):
        np.testing.assert_array_equal(audio, wave[start:start + len(audio)])
        assert begin - 8000 - FRAME <= start <= begin - 7000 and end + 8000 - FRAME <= start + len(audio) <= end + 8000 + 2 * FRAME


def test_an_utterance_that_does_not_end_is_ended():
    endpointer = Endpointer(_Loud(), Endpointing(longest=3.0))
    pieces = endpointer.accept(np.full(16000 * 12, 0.9, np.float32))
    lengths = [len(audio) / 16000 for _, audio, ends in pieces if ends]
    assert lengths == pytest.approx([5.0, 5.0], abs=0.05)  # nothing but speech: two seconds later in any case
    assert endpointer.accept(np.zeros(16000, np.float32))[0][2]
    with pytest.raises(ValueError, match="silence: nan s"):
        Endpointer(_Loud(), Endpointing(silence=float("nan")))
