import hashlib
import json
import random
import subprocess
import sys

import pytest

from voxkit.eval.wer import align, edit_errors, score, wer

WORDS = "heal me now push the left lane ward at dragon".split()


def corpus(n=200, seed=0):
    rng = random.Random(seed)
    references, hypotheses = {}, {}
    for i in range(n):
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, 12))]
        references[f"u{i}"] = " ".join(words)
        noisy = [rng.choice(WORDS) if rng.random() < 0.1 else w for w in words if rng.random() > 0.1]
        noisy = [x for w in noisy for x in ([w, rng.choice(WORDS)] if rng.random() < 0.1 else [w])]
        hypotheses[f"u{i}"] = " ".join(noisy)
    return references, hypotheses


# seed, unit → hits, substitutions, deletions, insertions; SHA-256 of all aligned pairs; interval: as they were before jiwer aligned
BEFORE = {
    (0, "word"): ((1058, 138, 103, 102), "12dc1ec9c18bc30f", (0.242342626, 0.285729481)),
    (0, "char"): ((4864, 395, 520, 517), "12c60c5cea9c2390", (0.226552312, 0.270643558)),
    (1, "word"): ((1077, 132, 110, 96), "c8be0ec00b269e90", (0.233745663, 0.280637877)),
    (1, "char"): ((4943, 368, 548, 479), "3a8793c438956ae7", (0.217221766, 0.261008678)),
    (2, "word"): ((1018, 122, 108, 82), "2625c2a60b84ceb8", (0.227098927, 0.274456712)),
    (2, "char"): ((4682, 341, 557, 411), "a67a3fd8a5d63d90", (0.214465692, 0.257558126)),
}


@pytest.mark.parametrize("seed, unit", BEFORE)
def test_figures_are_those_of_before(seed, unit):
    result = score(*corpus(seed=seed), unit=unit)
    counts, pairs, interval = BEFORE[seed, unit]
    assert (result.hits, result.substitutions, result.deletions, result.insertions) == counts
    assert hashlib.sha256(json.dumps([u.pairs() for u in result.utterances]).encode()).hexdigest()[:16] == pairs
    assert result.interval(samples=500) == pytest.approx(interval, abs=1e-9)


def test_the_fewest_edits():
    """Against the table of Levenshtein, cell by cell; empty texts among them."""
    rng = random.Random(3)
    for _ in range(300):
        a, b = ([rng.choice("abcd") for _ in range(rng.randint(0, 9))] for _ in range(2))
        cost = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            diagonal, cost[0] = cost[0], i
            for j, y in enumerate(b, 1):
                diagonal, cost[j] = cost[j], min(cost[j] + 1, cost[j - 1] + 1, diagonal + (x != y))
        u = align("u", a, b)
        assert u.errors == cost[-1] == edit_errors(a, b)
        assert [x for x, _ in u.pairs() if x is not None] == a and [y for _, y in u.pairs() if y is not None] == b
        assert u.hits + u.substitutions + u.deletions == len(a) and u.hits + u.substitutions + u.insertions == len(b)


def test_long_texts_need_memory_in_proportion():
    """100,000 characters against as many: a table of them would hold 10^10 cells."""
    code = ("import random, resource\nfrom voxkit.eval.wer import align\nrng = random.Random(0)\n"
            "a = [rng.choice('abcdef ') for _ in range(100_000)]\nb = [c for c in a if rng.random() > 0.1]\nalign('', a[:9], b[:9])\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nassert 0 < align('', a, b).errors < 20_000\n"
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)")
    used = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(used) < 100  # MB


def test_counts_and_pairs():
    result = score({"a": "heal me now", "b": "push"}, {"a": "heal now please", "b": "push"})
    u = result.utterances[0]
    assert u.errors == edit_errors("heal me now".split(), "heal now please".split()) == 2
    assert [x for x, _ in u.pairs() if x] == ["heal", "me", "now"]
    assert [y for _, y in u.pairs() if y] == ["heal", "now", "please"]
    assert result.ser == 0.5 and result.words == 4


def test_normalization_is_named():
    assert score({"a": "Heal me, now!"}, {"a": "HEAL ME NOW"}, normalize="librispeech").errors == 0
    with pytest.raises(ValueError, match="librispeech"):
        score({"a": "x"}, {"a": "x"}, normalize="libri")


def test_whisper_english():
    pytest.importorskip("whisper_normalizer")
    assert score({"a": "Mr. Color paid twenty dollars"}, {"a": "mister color paid $20"}, normalize="whisper-english").errors == 0


@pytest.mark.parametrize("references, hypotheses, message", [
    ({}, {}, "empty"),
    ({"a": "x", "b": "y"}, {"a": "x"}, "no hypothesis: b"),
    ({"a": "x"}, {"a": "x", "c": "y"}, "no reference: c"),
])
def test_bad_ids_are_errors(references, hypotheses, message):
    with pytest.raises(ValueError, match=message):
        score(references, hypotheses)


def test_missing_counts_as_deleted_on_request():
    assert score({"a": "x y", "b": "z"}, {"b": "z"}, missing="empty").deletions == 2


def test_nothing_said():
    assert score({"a": ""}, {"a": ""}).rate == 0
    assert score({"a": ""}, {"a": "boo"}).rate == float("inf")
    assert align("a", [], ["boo"]).insertions == 1
    assert wer(["a b"], ["a c"]) == 0.5


def test_eval_needs_no_torch():
    modules = "wer intervals significance table charts texts normalize report calibration".split()
    code = ("import importlib.util, sys\n"
            f"for m in {modules}:\n"
            "    if importlib.util.find_spec('voxkit.eval.' + m): importlib.import_module('voxkit.eval.' + m)\n"
            "assert 'torch' not in sys.modules and 'lhotse' not in sys.modules")
    subprocess.run([sys.executable, "-c", "import importlib\n" + code], check=True)
