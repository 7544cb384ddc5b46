"""What data hands to models: Batch, masks, hypotheses, optional packages."""

import json

import pytest
import torch

from voxkit import masks, optional
from voxkit.batch import Batch, Padded
from voxkit.hypothesis import Hypothesis, Word


class TestPadded:
    def test_items_of_several_lengths(self):
        padded = Padded.of([torch.ones(2, 3), torch.ones(4, 3)])
        assert padded.values.shape == (2, 4, 3) and padded.lengths.tolist() == [2, 4] and padded.size == 2
        assert padded.values.sum() == 18 and not padded.values[0, 2:].any()

    @pytest.mark.parametrize("rows, lengths", [(slice(1, 3), [3, 2]), (slice(2, 3), [2]), (slice(0, 2), [7, 3])])
    def test_what_is_taken_is_padded_to_its_own_longest(self, rows, lengths):
        padded = Padded(torch.randn(3, 7, 2), torch.tensor([7, 3, 2]))
        part = padded.take(rows)
        assert part.lengths.tolist() == lengths and torch.equal(part.values, padded.values[rows, :max(lengths)])

    def test_repeated(self):
        padded = Padded(torch.randn(2, 3, 4), torch.tensor([3, 2])).repeat(2)
        assert torch.equal(padded.values[:2], padded.values[2:]) and padded.lengths.tolist() == [3, 2, 3, 2]


class TestBatch:
    def test_it_holds_something(self):
        with pytest.raises(ValueError, match="at least one of audio, features, states"):
            Batch(ids=["a"], texts=["x"])

    @pytest.mark.parametrize("name, shape", [("audio", (2, 5)), ("features", (2, 5, 80)), ("states", (2, 5, 3, 8)), ("tokens", (2, 5))])
    def test_input_and_size(self, name, shape):
        batch = Batch(ids=["a", "b"], **{name: Padded(torch.zeros(shape), torch.tensor([5, 3]))})
        assert batch.size == 2 and batch.input.values.shape == shape

    def test_to_moves_tensors_and_keeps_the_rest(self):
        batch = Batch(["a"], audio=Padded.of([torch.zeros(5)]), texts=["x"], tokens=Padded.of([torch.tensor([1])]), seconds=0.5)
        moved = batch.to("meta")
        assert {x.device.type for part in (moved.audio, moved.tokens) for x in (part.values, part.lengths)} == {"meta"}
        assert (moved.ids, moved.texts, moved.seconds) == (["a"], ["x"], 0.5) and batch.audio.values.device.type == "cpu"

    def test_utterances_are_taken_with_all_that_is_theirs(self):
        states = torch.arange(3 * 7 * 2 * 1.0).view(3, 7, 2, 1)
        batch = Batch(ids=["a", "b", "c"], states=Padded(states, torch.tensor([7, 3, 2])), texts=["x", "y", "z"], sessions=["s", "t", "s"],
                      tokens=Padded(torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]]), torch.tensor([3, 1, 2])), seconds=9.0)
        part = batch.take(slice(1, 3))
        assert (part.ids, part.texts, part.sessions, part.seconds) == (["b", "c"], ["y", "z"], ["t", "s"], 6.0)
        assert torch.equal(part.states.values, states[1:, :3]) and part.tokens.values.tolist() == [[4, 0], [5, 6]]


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
