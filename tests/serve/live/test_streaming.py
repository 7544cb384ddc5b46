"""The host of streams over a streaming artifact: who fails, ends alone."""

import pytest

from tests.serve.client import LoudnessVad
from tests.serve.live.test_listen import game
from voxkit.hypothesis import Hypothesis
from voxkit.serve.live.errors import FAILED
from voxkit.serve.live.host import HostLimits
from voxkit.serve.live.options import StreamOptions
from voxkit.serve.live.stream import End, Ended, Heard, Work
from voxkit.serve.live.streaming import StreamingHost
from voxkit.serve.metrics import Metrics


class Second:
    """Counts samples; cannot read so many."""

    def __init__(self, unread):
        self.unread = unread

    def read(self, wave, phrases=None, boost=1.5):
        if len(wave) == self.unread:
            raise ZeroDivisionError("unread")
        return Hypothesis(f"{len(wave)} samples")

    def check_phrases(self, phrases, boost=1.5):
        assert not phrases


@pytest.mark.parametrize("control", [None, End()])  # it fails where all are stepped together, or where its own utterance is ended
def test_a_stream_that_fails_ends_alone(artifacts, monkeypatch, control):
    from voxkit.runtime.streaming import StreamingRecognizer

    monkeypatch.setattr("voxkit.runtime.streaming.Vad", LoudnessVad)
    options = StreamOptions(interim=True, silence=0.3 if control is None else None)

    def heard(second, *talks):
        host = StreamingHost(StreamingRecognizer(artifacts["streaming"], second=second), HostLimits(), Metrics())
        return host.work([(host.prepare(options), Work(game(*talk)[0], control, 0.0)) for talk in talks])

    def said(found):
        events, error = found
        assert error is None and (control is None or events[-1] == Ended())
        return [(e.start, e.end, e.hypothesis.text, e.final) for e in events if isinstance(e, Heard)]

    talks = [(0.8, 0.6), (0.5,), (0.9,)]
    (alone,) = heard(Second(0), talks[1])
    unread = next(int(text.split()[0]) for _, _, text, final in said(alone) if final and text)
    first, failed, last = heard(Second(unread), *talks)
    assert failed[1].code == FAILED
    for found, talk in ((first, talks[0]), (last, talks[2])):
        assert said(found) == said(heard(Second(0), talk)[0]) and any(final and text for _, _, text, final in said(found))
