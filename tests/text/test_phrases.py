import codecs

import pytest
import torch

from tests.text.vocabularies import Pieces
from voxkit.search.context_graph import ContextGraph
from voxkit.text.phrases import read_phrases

TEXT = "ward now\nheal\t2.5\n\n  Zoë \u2028x \nward now\n"
FOUND = {"ward now": None, "heal": 2.5, "Zoë x": None}


@pytest.mark.parametrize("content", [
    TEXT.encode(), codecs.BOM_UTF8 + TEXT.encode(), TEXT.replace("\n", "\r\n").encode(), TEXT.replace("\n", "\r").encode(),
    codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")])
def test_lists_in_any_unicode(tmp_path, content):
    (tmp_path / "phrases.txt").write_bytes(content)
    assert read_phrases(tmp_path / "phrases.txt") == FOUND


@pytest.mark.parametrize("content, said", [
    ("heal\nZoë\n".encode("cp1252"), "phrases.txt:2: not UTF-8"),
    (b"heal\tnan\n", "line 1: boost 'nan' is no finite number"),
    (b"me\nheal\t inf \n", "line 2: boost 'inf' is no finite number"),
    (b"heal\t-infinity\n", "line 1: boost '-infinity' is no finite number"),
    (b"heal\t1e999\n", "line 1: boost '1e999' is no finite number"),
    (b"heal\tmuch\n", "line 1: boost 'much' is no finite number"),
    (b"heal\t2\nheal\t3\n", "line 2: 'heal' has been there before, with the boost 2"),
    (b"heal\nheal\t3\n", "line 2: 'heal' has been there before, without a boost"),
    (b"heal\t2\n\t3\n", "line 2: a boost without a phrase"),
    (b"\n \n", "it holds no phrase")])
def test_the_line_that_is_wrong_is_named(tmp_path, content, said):
    (tmp_path / "phrases.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_phrases(tmp_path / "phrases.txt")
    with pytest.raises(ValueError, match="no such file"):
        read_phrases(tmp_path / "nothing.txt")


@pytest.mark.parametrize("boost", [float("nan"), float("inf"), -float("inf")])
def test_boosts_from_python_are_finite_too(boost):
    vocabulary = Pieces(["<b>", "▁heal", "▁me"], unk=None)
    with pytest.raises(ValueError, match="phrase 'heal me': its boost is"):
        ContextGraph.from_texts({"me": 1.0, "heal me": boost}, vocabulary)
    with pytest.raises(ValueError, match="phrase 1: its boost is"):
        ContextGraph([[1], [2]], 3, [1.0, boost])
    assert torch.isfinite(ContextGraph.from_texts(["me"], vocabulary, 2.0).lent).all()
