"""Graphs on disk are plain tensors, with a stand-in for k2's classes where k2 is not installed."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from voxkit.search.k2_files import load_fsa, save_fsa


class Ragged:
    """As much of k2.RaggedTensor as a file needs; pickled, it would run code when it is read."""

    num_axes = 2

    def __init__(self, shape, values):
        self.shape, self.values = shape, values

    def __reduce__(self):
        return print, ("a pickle ran",)


class Shape:
    def __init__(self, row_splits, cached_tot_size):
        assert int(row_splits[-1]) == cached_tot_size
        self.splits = row_splits

    def row_splits(self, axis):
        assert axis == 1
        return self.splits


K2 = SimpleNamespace(RaggedTensor=Ragged, ragged=SimpleNamespace(create_ragged_shape2=Shape), Fsa=SimpleNamespace(from_dict=dict))
SPLITS, VALUES = torch.tensor([0, 2, 2, 3], dtype=torch.int32), torch.tensor([4, 5, 6], dtype=torch.int32)
ARCS = torch.arange(12, dtype=torch.int32).view(3, 4)


def graph(aux_labels):
    return SimpleNamespace(as_dict=lambda: {"arcs": ARCS, "aux_labels": aux_labels, "requires_grad": False})


@pytest.mark.parametrize("ragged", [True, False])
def test_a_graph_comes_back(tmp_path, capsys, ragged):
    save_fsa(K2, graph(Ragged(Shape(SPLITS, 3), VALUES) if ragged else VALUES), tmp_path / "HLG.pt")
    found = load_fsa(K2, tmp_path / "HLG.pt", "cpu")
    labels = found["aux_labels"]
    assert torch.equal(found["arcs"], ARCS) and found["requires_grad"] is False and torch.equal(labels.values if ragged else labels, VALUES)
    assert not ragged or torch.equal(labels.shape.row_splits(1), SPLITS)
    assert capsys.readouterr().out == "" and [p.name for p in tmp_path.iterdir()] == ["HLG.pt"]


def pickled(path):
    torch.save({"arcs": ARCS, "aux_labels": Ragged(None, None)}, path)


def bare_pickle(path):
    path.write_bytes(pickle.dumps({"aux_labels": Ragged(None, None)}))


@pytest.mark.parametrize("write", [pickled, bare_pickle, lambda path: path.write_bytes(b"zeros" * 9), lambda path: path.write_bytes(b"")])
def test_a_pickle_is_refused_and_does_not_run(tmp_path, capsys, write):
    write(tmp_path / "HLG.pt")
    with pytest.raises(ValueError, match="HLG.pt: not a graph of plain tensors, .*make it anew with `voxkit lm graph`"):
        load_fsa(K2, tmp_path / "HLG.pt", "cpu")
    assert "a pickle ran" not in capsys.readouterr().out
