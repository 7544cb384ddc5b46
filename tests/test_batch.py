"""What data hands to models: Batch, masks, hypotheses, optional packages."""

import json

import pytest
import torch

from voxkit import masks, optional
from voxkit.batch import Batch
from voxkit.hypothesis import Hypothesis, Word


class TestBatch:
    def test_exactly_one_input(self):
        lengths = torch.tensor([3])
        with pytest.raises(ValueError, match="exactly one"):
            Batch(ids=["a"], lengths=lengths)
        with pytest.raises(ValueError, match="exactly one"):
            Batch(ids=["a"], lengths=lengths, audio=torch.zeros(1, 3), features=torch.zeros(1, 3, 80))

    @pytest.mark.parametrize("name, shape", [("audio", (2, 5)), ("features", (2, 5, 80)), ("states", (2, 3, 5, 8))])
    def test_input_and_size(self, name, shape):
        batch = Batch(ids=["a", "b"], lengths=torch.tensor([5, 3]), **{name: torch.zeros(shape)})
        assert batch.size == 2 and batch.input.shape == shape

    def test_to_moves_tensors_and_keeps_the_rest(self):
        batch = Batch(ids=["a"], lengths=torch.tensor([5]), audio=torch.zeros(1, 5), texts=["x"], tokens=torch.tensor([[1]]),
                      token_lengths=torch.tensor([1]), seconds=0.5)
        moved = batch.to("meta")
        assert {moved.audio.device.type, moved.lengths.device.type, moved.tokens.device.type, moved.token_lengths.device.type} == {"meta"}
        assert (moved.ids, moved.texts, moved.seconds) == (["a"], ["x"], 0.5) and batch.audio.device.type == "cpu"


class TestMasks:
    def test_true_is_valid(self):
        assert masks.lengths_to_mask(torch.tensor([2, 0, 3])).tolist() == [[True, True, False], [False] * 3, [True] * 3]
        assert masks.lengths_to_mask(torch.tensor([1]), 3).tolist() == [[True, False, False]]

    def test_causal(self):
        assert masks.causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]

    @pytest.mark.parametrize("left", [-1, 0, 1])
    def test_chunks(self, left):
        mask = masks.chunk_mask(7, 2, left)
        for i in range(7):
            for j in range(7):
                behind = i // 2 - j // 2
                assert mask[i, j] == (behind >= 0 and (left < 0 or behind <= left))


def test_hypothesis_as_json():
    hypothesis = Hypothesis("heal me", [Word("heal", 0.12345, 0.5, 0.98765), Word("me", 0.5, 0.75, 1.0)], -1.5, [3, 4], 1.23456)
    assert json.loads(json.dumps(hypothesis.to_json())) == {
        "text": "heal me", "audio_duration": 1.235,
        "words": [{"word": "heal", "start": 0.123, "end": 0.5, "confidence": 0.9877},
                  {"word": "me", "start": 0.5, "end": 0.75, "confidence": 1.0}],
    }


class TestOptional:
    def test_there(self):
        assert optional.available("json") and optional.require("json.decoder").__name__ == "json.decoder"

    def test_missing_names_the_command(self):
        assert not optional.available("no_such_package") and not optional.available("no_such_package.inner")
        with pytest.raises(optional.MissingPackage, match=r"no_such_package is needed for graphs .*pip install 'voxkit\[lm\]'"):
            optional.require("no_such_package.inner", "lm", why="graphs")

    def test_k2_has_an_installer_of_its_own(self, monkeypatch):
        def fail(name):
            raise ImportError("undefined symbol")

        monkeypatch.setattr(optional.importlib, "import_module", fail)
        with pytest.raises(optional.MissingPackage, match=r"undefined symbol.*tools/install_k2\.sh"):
            optional.require("k2")

    def test_it_is_an_import_error(self):
        with pytest.raises(ImportError):
            optional.require("no_such_package", "lm")
