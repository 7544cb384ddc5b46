"""A checkpoint as the service's model."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.serve.client import LoudnessVad
from tests.serve.tiny import wave
from voxkit.search.options import SearchOptions
from voxkit.serve.backend import Asked
from voxkit.serve.inputs import Input
from voxkit.serve.torch_backend import TorchBackend, feature_bins


def _inputs(count, step):
    return [Input("features", np.random.default_rng(i).normal(size=(40 + step * i, 16)).astype("float32"), 0.4) for i in range(count)]


@pytest.mark.parametrize("model, bins", [
    (SimpleNamespace(), None),  # an imported Whisper
    (SimpleNamespace(front_end=SimpleNamespace()), None),  # a pretrained encoder
    (SimpleNamespace(front_end=SimpleNamespace(fbank=SimpleNamespace(num_bins=40))), 40),
])
def test_features_are_taken_where_the_front_end_has_a_filterbank(model, bins):
    assert feature_bins(SimpleNamespace(model=model)) == bins


def test_together_is_alone(recognizers):
    """Requests of other lengths in one batch answer as they do alone."""
    for recognizer in recognizers.values():
        backend, items = TorchBackend(recognizer), _inputs(3, 25)
        together = backend.recognize(items, Asked("features", False))
        assert [h.text for h in together] == [backend.recognize([item], Asked("features", False))[0].text for item in items]


def test_two_threads_at_once_find_what_one_finds(recognizers):
    """The lanes of the service use one model from two threads."""
    for recognizer in recognizers.values():
        backend, items = TorchBackend(recognizer), _inputs(8, 15)

        def one(item, backend=backend):
            return backend.recognize([item], Asked("features", True))[0]

        alone = [one(item) for item in items]
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(one, items * 3))
        assert [h.to_json() for h in together] == [h.to_json() for h in alone] * 3


def test_what_is_longer_than_the_model_takes_is_cut(tmp_path, monkeypatch):
    from tests.models.tiny_whisper import make_whisper
    from voxkit.infer.recognizer import Recognizer

    monkeypatch.setattr("voxkit.infer.recognizer.Vad", LoudnessVad)
    recognizer = Recognizer.from_pretrained(make_whisper(tmp_path / "whisper", 2), language="en")
    backend = TorchBackend(recognizer)
    items = [Input("audio", wave(seed, seconds), seconds) for seed, seconds in ((1, 1.0), (2, 5.0))]
    found = backend.recognize(items, Asked("audio", True))
    waves = [torch.from_numpy(item.values) for item in items]
    assert [h.text for h in found] == [recognizer.transcribe(one, SearchOptions(words=True)).text for one in waves]
    assert all(h.text for h in found) and found[1].words[-1].end > 4.0


def test_phrases_are_favored(recognizers):
    """A beam that is paid much for a phrase says it; one that cannot be spelled is refused."""
    backend = TorchBackend(recognizers["voxformer"], SearchOptions("prefix_beam"))
    backend.check_phrases(["lane"], 2.0)
    items = _inputs(1, 0)
    plain, favored = (backend.recognize(items, Asked("features", False, phrases, 10.0))[0].text for phrases in ((), ("lane",)))
    assert "lane" in favored and "lane" not in plain
    with pytest.raises(ValueError):
        backend.check_phrases(["§"], 2.0)
