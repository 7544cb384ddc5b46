"""What the service asks of models, of whatever kind."""

from types import SimpleNamespace

import pytest

from voxkit.serve.recognition import feature_bins


@pytest.mark.parametrize("model, bins", [
    (SimpleNamespace(), None),  # an imported Whisper
    (SimpleNamespace(front_end=SimpleNamespace()), None),  # a pretrained encoder
    (SimpleNamespace(front_end=SimpleNamespace(fbank=SimpleNamespace(num_bins=40))), 40),
])
def test_features_are_taken_where_the_front_end_has_a_filterbank(model, bins):
    assert feature_bins(SimpleNamespace(model=model)) == bins
