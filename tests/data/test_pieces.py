"""Pieces: the truth is what sounds, the codec of tones reads it without error, recall counts what was remembered and nothing else."""

import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from voxkit.batch import Padded
from voxkit.cli.main import main
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.codecs.tones import PITCHES, TIMBRES, ToneCodec
from voxkit.data.corpora.pieces import NOTES, SCALE, PiecesConfig, compose, sound
from voxkit.data.reader import load_samples
from voxkit.data.sets import read_sets

SHORT = PiecesConfig(seconds=16.0, gap_low=10, gap_high=20)


def test_every_note_is_read_back():
    every = torch.cartesian_prod(torch.arange(1, PITCHES + 1), torch.arange(1, TIMBRES + 1))
    codes = torch.cat((every, torch.zeros(3, 2, dtype=torch.long), every.flip(0)))[None]
    codec = ToneCodec()
    heard = codec.decode(Padded(codes, torch.tensor([codes.shape[1]])))
    assert torch.equal(codec.encode(heard).values, codes)
    np.testing.assert_allclose(sound(codes[0].numpy()), heard.values[0].numpy(), atol=1e-3)
    with pytest.raises(ValueError, match="both books"):
        codec.decode(Padded(codes[..., :1], torch.tensor([5])))


def test_a_piece_is_its_truth():
    for index in range(6):
        piece = compose(SHORT, "train", index)
        assert len(piece.codes) == 200 and len(piece.onsets) >= 2 and len(piece.motif) == NOTES
        assert all((pitch - 1 - piece.root) % 12 in SCALE for pitch in piece.motif)
        for onset in piece.onsets:
            played = piece.codes[onset:onset + NOTES * piece.tempo]
            assert played[::piece.tempo, 0].tolist() == piece.motif and set(played[:, 1]) == {piece.timbre}
        sounding = np.flatnonzero(piece.codes[:, 0])
        assert len(sounding) == len(piece.onsets) * NOTES * piece.tempo and np.diff(sounding).max() > SHORT.gap_low
    assert compose(SHORT, "train", 0).motif != compose(SHORT, "test", 0).motif
    assert "seconds" in PiecesConfig(seconds=5).problems()[0] and not SHORT.problems()


def test_prepared_pieces_give_their_codes_back(tmp_path):
    assert main(["prepare", "pieces", "--out", str(tmp_path), "--num-train", "2", "--num-dev", "1", "--num-test", "1", "--seconds", "16",
                 "--gap-low", "10", "--gap-high", "20"]) in (0, None)
    cuts = list(read_sets(str(tmp_path), ["train"]))
    tokenizer = AudioTokenizer.load("tones")
    for index, cut in enumerate(cuts):
        assert tokenizer.encode(torch.from_numpy(load_samples(cut)), 16_000).tolist() == compose(SHORT, "train", index).codes.tolist()
        assert cut.supervisions[0].custom["motif"] == compose(SHORT, "train", index).motif
    tokenizer.save(tmp_path / "kept")
    assert AudioTokenizer.load(tmp_path / "kept").fingerprint() == tokenizer.fingerprint()


def test_recall_counts_what_is_remembered(repository):
    spec = importlib.util.spec_from_file_location("recall", repository / "egs/toy/lact_audio/local/recall.py")
    recall = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recall)
    piece = compose(PiecesConfig(), "test", 3)
    codes = torch.from_numpy(piece.codes)
    truth = {"timbre": piece.timbre, "tempo": piece.tempo, "root": piece.root, "motif": piece.motif, "onsets": piece.onsets}
    perfect = 20 * F.one_hot(codes, 25).float()
    assert recall.recall(perfect, codes, truth) == {"timbre": 1.0, "tempo": 1.0, "key": 1.0, "motif": 1.0}
    forgetful = perfect.clone()
    forgetful[piece.onsets[1:], 1] = F.one_hot(torch.tensor(piece.timbre % 8 + 1), 25).float()
    assert recall.recall(forgetful, codes, truth) == {"timbre": 0.0, "tempo": 1.0, "key": 1.0, "motif": 1.0}
    hurried = perfect.clone()
    hurried[[onset + 1 for onset in piece.onsets[1:3]], 0] = 20 * F.one_hot(torch.tensor(piece.motif[1]), 25).float()
    found = recall.recall(hurried, codes, truth)
    assert found["tempo"] == pytest.approx(1 - 2 / (len(piece.onsets) - 1)) and found["motif"] == 1.0
    still = F.one_hot(torch.zeros_like(codes), 25).float()
    assert recall.recall(still, codes, truth)["timbre"] == 0.0 and recall.recall(still, codes, truth)["motif"] < 0.5
