import math
import random
from pathlib import Path

import pytest
import torch

from tests.text.vocabularies import Pieces
from voxkit.infer.language_model import load_language_model
from voxkit.search.ngram import NgramModel, train
from voxkit.search.ngram_scorer import KenlmScorer, NgramScorer

WORDS = "heal me now push the left lane ward at dragon".split()
KENLM = Path(__file__).parent / "kenlm_files"
PIECES = ["<blank>", "<s>", "</s>", "<unk>", *WORDS]


def text(n=300, seed=0):
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        words, at = [], rng.randint(0, 9)
        for _ in range(rng.randint(0, 9)):
            words.append(WORDS[at])
            at = (at + rng.choice([1, 1, 1, 2, 5])) % 9  # "dragon" is never said
        out.append(words)
    return out


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    train(text(), 4, vocabulary=PIECES[3:]).write(path)
    return path


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_sum_to_one(order):
    model = train(text(), order, vocabulary=WORDS)
    words = [w for w in model.vocabulary if w != "<s>"]
    assert set(words) == {*WORDS, "</s>", "<unk>"}
    for context in [["<s>"], ["heal"], ["heal", "me"], ["<s>", "heal", "me"], ["ward", "ward", "ward"], ["nobody", "me"]]:
        assert sum(10 ** model.log10(w, context) for w in words) == pytest.approx(1, abs=1e-6)


def test_bigram_by_hand():
    # counts too few for estimated discounts: 0.5, 1, 1.5; unigrams count what comes before
    model = train([["a", "b"], ["a", "b"], ["a", "c"]], 2)
    types = 5  # a b c </s> <unk>
    unigram_total = 1 + 1 + 1 + 2  # a after <s>; b, c after a; </s> after b, c
    gamma = (3 * 0.5 + 1.0) / unigram_total
    b = (1 - 0.5) / unigram_total + gamma / types
    assert 10 ** model.log10("b", []) == pytest.approx(b)
    assert 10 ** model.log10("b", ["a"]) == pytest.approx((2 - 1.0) / 3 + (1.0 + 0.5) / 3 * b)


def test_continuations_count_behind_what_they_continue():
    """By hand, the same discounts: neither the beginning nor an end is counted."""
    model = train([["a", "b"], ["a", "c"]], 2, continuations=[(["<s>", "a"], ["b"], 2), (["<s>", "a"], ["d"], 1)])
    assert 10 ** model.log10("b", ["a"]) == pytest.approx((3 - 1.5) / 5 + (1.5 + 0.5 + 0.5) / 5 * 10 ** model.log10("b", []))
    assert ("d", "</s>") not in model.ngrams[1] and ("<s>", "b") not in model.ngrams[1]
    for context in ([], ["<s>"], ["a"], ["d"]):
        assert sum(10 ** model.log10(w, context) for w in ("a", "b", "c", "d", "</s>", "<unk>")) == pytest.approx(1, abs=1e-6)
    assert 10 ** model.log10("a", ["<s>"]) == pytest.approx((2 - 1.0) / 2 + 1.0 / 2 * 10 ** model.log10("a", []))  # as before
    parted = train([["a", "b"]], 3, continuations=[(["x", "a"], ["b", "c"], 1)])
    assert ("x", "a", "b") in parted.ngrams[2] and ("a", "b", "c") in parted.ngrams[2] and ("</s>", "x") not in parted.ngrams[1]


def test_pruned_counts_go_to_shorter_ngrams():
    whole, pruned = train(text(), 3, vocabulary=WORDS), train(text(), 3, vocabulary=WORDS, prune=(0, 0, 3))
    assert len(pruned.ngrams[2]) < 0.8 * len(whole.ngrams[2]) and pruned.ngrams[2].keys() <= whole.ngrams[2].keys()
    assert pruned.ngrams[0].keys() == whole.ngrams[0].keys()
    words = [w for w in pruned.vocabulary if w != "<s>"]
    for context in [["<s>"], ["heal"], ["heal", "me"], ["<s>", "heal"], ["ward", "ward"]]:
        assert sum(10 ** pruned.log10(w, context) for w in words) == pytest.approx(1, abs=1e-6)
    for wrong in ((), (1,), (0, 2, 1)):
        with pytest.raises(ValueError, match="prune"):
            train(text(), 3, prune=wrong)


def test_better_than_chance_and_order_helps():
    held_out = text(100, 1)
    perplexities = [train(text(2000), n).perplexity(held_out) for n in (1, 2, 3)]
    assert perplexities[1] < 0.6 * perplexities[0] and perplexities[2] < 1.1 * perplexities[1]


def test_arpa_round_trip_and_kenlm(arpa):
    kenlm = pytest.importorskip("kenlm")
    ours, theirs = NgramModel.read(arpa), kenlm.Model(str(arpa))
    for words in [*text(50, 3), ["dragon", "who", "me"], []]:
        assert ours.sentence(words) == pytest.approx(theirs.score(" ".join(words)), abs=1e-3)


def test_scorer_equals_model(arpa):
    model, scorer = NgramModel.read(arpa), NgramScorer.read(arpa, PIECES)
    candidates = torch.arange(3, len(PIECES))
    for words in text(20, 4):
        state, ids = scorer.init(1, torch.device("cpu")), [PIECES.index(w) for w in words]
        for i, token in enumerate(ids):
            found = scorer.score(state, candidates[None])[0]
            assert found.tolist() == pytest.approx(
                [math.log(10) * model.log10(PIECES[c], ["<s>", *words[:i]]) for c in candidates], abs=1e-4)
            assert scorer.advance(state, torch.tensor([-1])).tolist() == state.tolist()
            state = scorer.advance(state, torch.tensor([token]))
        assert float(scorer.final(state)) == pytest.approx(math.log(10) * model.log10("</s>", ["<s>", *words]), abs=1e-4)


def test_kenlm_scorer_equals_ours_in_a_beam(arpa):
    pytest.importorskip("kenlm")
    from voxkit.search.prefix_beam import ctc_prefix_beam

    torch.manual_seed(0)
    x = torch.randn(3, 20, len(PIECES)).log_softmax(-1)
    lengths = torch.tensor([20, 13, 5])
    a, b = (ctc_prefix_beam(x, lengths, 4, nbest=4, scorer=s) for s in (NgramScorer.read(arpa, PIECES), KenlmScorer(arpa, PIECES)))
    assert [[h.tokens for h in row] for row in a] == [[h.tokens for h in row] for row in b]
    assert [h.score for h in a[0]] == pytest.approx([h.score for h in b[0]], abs=1e-3)


@pytest.mark.parametrize("kind", ["probing", "trie"])
def test_kenlm_binaries_say_what_their_arpa_says(kind):
    """bigram.*.klm were made from bigram.arpa by KenLM's `build_binary KIND`."""
    pytest.importorskip("kenlm")
    ours = NgramScorer.read(KENLM / "bigram.arpa", PIECES)
    theirs = load_language_model(KENLM / f"bigram.{kind}.klm", Pieces(PIECES))
    assert isinstance(theirs, KenlmScorer)
    candidates = torch.arange(3, len(PIECES))[None]
    for words in [*text(10, 5), ["dragon", "ward"]]:
        a, b = ours.init(1, torch.device("cpu")), theirs.init(1, torch.device("cpu"))
        for token in [PIECES.index(w) for w in words]:
            torch.testing.assert_close(ours.score(a, candidates), theirs.score(b, candidates), atol=1e-4, rtol=1e-4)
            a, b = ours.advance(a, torch.tensor([token])), theirs.advance(b, torch.tensor([token]))
        torch.testing.assert_close(ours.final(a), theirs.final(b), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="bigram.trie.klm is over other tokens"):
        load_language_model(KENLM / "bigram.trie.klm", Pieces([*PIECES[:4], "▁HEAL", "▁ME"]))


def test_other_tokens_are_refused(arpa):
    with pytest.raises(ValueError, match="other tokens"):
        NgramScorer.read(arpa, ["<blank>", "<s>", "</s>", "<unk>", "▁HEAL", "▁ME"])


def test_a_file_that_is_cut_off_is_refused(arpa, tmp_path):
    lines = arpa.read_text().splitlines(keepends=True)
    (tmp_path / "half.arpa").write_text("".join(lines[:-10]))
    with pytest.raises(ValueError, match="half.arpa.*cut off"):
        NgramModel.read(tmp_path / "half.arpa")


def test_bad_files(tmp_path):
    (tmp_path / "x").write_text("hello\n")
    with pytest.raises(ValueError, match="ARPA"):
        NgramModel.read(tmp_path / "x")
    with pytest.raises(ValueError, match="no such file"):
        NgramModel.read(tmp_path / "y")
    with pytest.raises(ValueError, match="empty"):
        train([], 3)


def test_command(tmp_path, capsys):
    import argparse

    from voxkit.cli import lm

    (tmp_path / "text").write_text("\n".join(" ".join(words) for words in text()))
    parser = argparse.ArgumentParser()
    lm.add_parser(parser.add_subparsers())
    for argv in (["train", "--order", "3", "--out", str(tmp_path / "lm.arpa.gz")], ["perplexity", "--lm", str(tmp_path / "lm.arpa.gz")]):
        args = parser.parse_args(["lm", argv[0], "--text", str(tmp_path / "text"), *argv[1:]])
        args.run(args)
    assert capsys.readouterr().out.count("perplexity") == 2
    assert NgramModel.read(tmp_path / "lm.arpa.gz").order == 3
