"""The synthetic corpus: repeatable, boundaries where the features change, cuts that load, broken features left out."""

import numpy as np
import pytest

from voxkit.data.config import DataConfig
from voxkit.data.corpora.toyseq import ToySeq2SeqDataset, ToySeqConfig, prepare_toyseq
from voxkit.data.loader import build_eval_loader, build_train_loader, largest_batch
from voxkit.data.manifests import load_cuts, read_json
from voxkit.text.sentencepiece import train_characters

SMALL = {"num_train": 12, "num_dev": 4, "num_test": 4}


def test_an_item_is_always_the_same_and_no_other():
    a, b = ToySeq2SeqDataset(ToySeqConfig(**SMALL)), ToySeq2SeqDataset(ToySeqConfig(**SMALL))
    np.testing.assert_array_equal(a[3].features, b[3].features)
    assert len({u.text for u in a}) == 12 and len(list(a)) == len(a)
    assert ToySeq2SeqDataset(ToySeqConfig(seed=1, **SMALL))[3].text != a[3].text
    assert ToySeq2SeqDataset(ToySeqConfig(num_train=1)).spectra.keys() == a.spectra.keys()
    with pytest.raises(IndexError, match="train has 12 utterances"):
        a[12]


def test_no_voice_of_test_is_one_of_train():
    train, test = (ToySeq2SeqDataset(ToySeqConfig(num_train=50, num_test=50), split) for split in ("train", "test"))
    assert not {u.speaker for u in train} & {u.speaker for u in test}


def test_boundaries_are_where_the_sound_is():
    """Without noise the features move within words and rest in the pauses."""
    for u in ToySeq2SeqDataset(ToySeqConfig(noise=0.0, **SMALL)):
        assert [w for w, _, _ in u.words] == u.text.split() and "".join(c for c, _, _ in u.letters) == u.text.replace(" ", "")
        spread = u.features.std(axis=1)
        inside = np.zeros(len(spread), bool)
        for _, start, end in u.words:
            inside[round(start * 100):round(end * 100)] = True
        edges = np.convolve(np.abs(np.diff(inside.astype(float), prepend=0)), np.ones(9), mode="same") > 0  # blended over 3 frames
        assert spread[inside & ~edges].min() > 0.2 and spread[~inside & ~edges].max() < 0.05
        for (_, _, end), (_, start, _) in zip(u.letters, u.letters[1:]):
            assert start >= end - 1e-9


def test_prepared_cuts_carry_features_and_times(tmp_path):
    preparation = prepare_toyseq(tmp_path / "a", ToySeqConfig(**SMALL))
    assert {name: report.kept for name, report in preparation.reports.items()} == {"train": 12, "dev": 4, "test": 4}
    (tmp_path / "a").rename(tmp_path / "b")  # a data directory can be moved
    cuts = load_cuts(tmp_path / "b/cuts_dev.jsonl.gz").to_eager()
    made = ToySeq2SeqDataset(ToySeqConfig(**SMALL), "dev")
    for cut, u in zip(cuts, made):
        np.testing.assert_allclose(cut.load_features(), u.features, atol=5e-3)
        assert [(i.symbol, i.start, round(i.end, 4)) for i in cut.supervisions[0].alignment["word"]] == \
            [(w, round(s, 4), round(e, 4)) for w, s, e in u.words]
    config = DataConfig(input="features", num_workers=0, max_duration=8, frames_per_second=25)
    tokenizer = train_characters([u.text for u in made], tmp_path / "tokens")
    batches = list(build_eval_loader(cuts, tokenizer, config))
    assert sum(b.size for b in batches) == 4 and all(b.features.values.shape[2] == 40 for b in batches)
    assert batches[0].features.lengths.max() == batches[0].features.values.shape[1]
    assert next(iter(build_train_loader(cuts, tokenizer, config, seed=1))).tokens.values.shape[1] > 2
    assert largest_batch(cuts, tokenizer, config, 20).features.values.shape[2] == 40


def test_made_once(tmp_path):
    prepare_toyseq(tmp_path, ToySeqConfig(**SMALL))
    before = (tmp_path / "cuts_train.jsonl.gz").stat().st_mtime_ns
    prepare_toyseq(tmp_path, ToySeqConfig(**SMALL))
    assert (tmp_path / "cuts_train.jsonl.gz").stat().st_mtime_ns == before
    prepare_toyseq(tmp_path, ToySeqConfig(**{**SMALL, "seed": 5}))
    assert (tmp_path / "cuts_train.jsonl.gz").stat().st_mtime_ns != before


def test_broken_features_are_named(tmp_path):
    from voxkit.data.validate import Checks, Preparation

    prepare_toyseq(tmp_path, ToySeqConfig(**SMALL))
    np.save(tmp_path / "features/dev/dev-00001.npy", np.full((50, 40), np.nan))
    (tmp_path / "features/dev/dev-00002.npy").unlink()
    cuts = list(load_cuts(tmp_path / "cuts_dev.jsonl.gz"))
    Preparation(tmp_path, "again", Checks(), {}).finish("checked", cuts)
    left_out = read_json(tmp_path / "validation.json")["checked"]["left_out"]
    assert [(e["id"], e["reason"]) for e in left_out] == [("dev-00001", "corrupt features"), ("dev-00002", "missing features")]
    loader = build_eval_loader(cuts, None, DataConfig(input="features", num_workers=0))
    assert sum(b.size for b in loader) == 2 and set(loader.failures) == {"dev-00001", "dev-00002"}


def test_options_that_cannot_be():
    assert [p.split(":")[0] for p in ToySeqConfig(num_dev=0, bins=4, noise=-1).problems()] == ["num_dev", "bins", "noise"]
    assert any("features cannot be changed" in p for p in DataConfig(input="features", speed_perturb=[0.9, 1.1]).problems())
