"""The front end on AudioFeatureExtractor: rows alone and together, a speaker's statistics through sessions, the data's gathered."""

from __future__ import annotations

import pytest
import torch

from voxkit.audio.extractor import ExtractorConfig
from voxkit.audio.specaugment import SpecAugmentConfig
from voxkit.batch import Batch, Padded
from voxkit.encoders.front_end import FrontEndConfig, build_front_end


def made(**features):
    torch.manual_seed(0)
    config = FrontEndConfig(kind="extractor", features=ExtractorConfig(bins=20, **features), stack=4, stride=3, subsampling_dim=8,
                            spec_augment=SpecAugmentConfig(prob=0.0))
    return build_front_end(config).eval()


def spoken(sessions: list[str] | None = None) -> Batch:
    draw = torch.Generator().manual_seed(0)
    audio = [(n + 1) * 0.05 * torch.randn(8000 + 900 * n, generator=draw) for n in range(4)]
    return Batch([str(n) for n in range(4)], audio=Padded.of(audio), sessions=sessions)


@pytest.mark.parametrize("features", [{}, {"kind": "raw", "window_ms": 10, "hop_ms": 5}, {"normalize": "global"}, {"normalize": "speaker"}])
def test_rows_are_what_they_are_alone(features: dict):
    front_end, batch = made(**features), spoken()
    x, lengths = front_end(batch)
    assert x.shape[-1] == front_end.output_dim
    for row in range(4):
        alone, length = front_end(batch.take(slice(row, row + 1)))
        torch.testing.assert_close(x[row, :length[0]], alone[0, :length[0]], atol=1e-4, rtol=1e-4)


def test_a_speaker_is_known_from_the_rows_before():
    front_end = made(normalize="speaker", prior=0.05)
    alone, _ = front_end(spoken())
    together, _ = front_end(spoken(["a", "b", "a", "a"]))
    difference = (alone - together).abs().amax((1, 2))
    assert difference[0] < 1e-5 and difference[1] < 1e-5 and difference[2] > 1e-2 and difference[3] > 1e-2
    known = None
    for row in (0, 2, 3):
        audio = spoken().take(slice(row, row + 1)).audio
        x, _, known = front_end.extractor(audio.values, audio.lengths, before=known)
    again, _ = front_end(spoken(["a", "b", "a", "a"]).take(slice(3, 4)))
    assert known.count.item() > 0 and (again[0] - together[3, :again.shape[1]]).abs().max() > 1e-2


def test_statistics_of_the_data_are_gathered_in_training_and_saved():
    front_end = made(normalize="global").train()
    front_end(spoken())
    assert front_end.seen > 0 and front_end.extractor.deviation.min() > 0
    other = made(normalize="global")
    other.load_state_dict(front_end.state_dict())
    torch.testing.assert_close(other(spoken())[0], front_end.eval()(spoken())[0])


def test_features_are_refused():
    with pytest.raises(ValueError, match="takes audio"):
        made()(Batch(["a"], features=Padded.of([torch.zeros(10, 20)])))
