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


def test_agrees_with_jiwer():
    jiwer = pytest.importorskip("jiwer")
    references, hypotheses = corpus()
    ours = score(references, hypotheses)
    theirs = jiwer.process_words(list(references.values()), list(hypotheses.values()))
    assert ours.rate == pytest.approx(theirs.wer)
    assert (ours.substitutions, ours.deletions, ours.insertions, ours.hits) == (
        theirs.substitutions, theirs.deletions, theirs.insertions, theirs.hits)
    characters = score(references, hypotheses, unit="char")
    assert characters.rate == pytest.approx(jiwer.cer(list(references.values()), list(hypotheses.values())))


def test_counts_and_pairs():
    result = score({"a": "heal me now", "b": "push"}, {"a": "heal now please", "b": "push"})
    u = result.utterances[0]
    assert u.errors == edit_errors("heal me now".split(), "heal now please".split()) == 2
    assert [x for x, _ in u.pairs() if x] == ["heal", "me", "now"]
    assert [y for _, y in u.pairs() if y] == ["heal", "now", "please"]
    assert result.ser == 0.5 and result.words == 4


def test_normalisation_is_named():
    assert score({"a": "Heal me, now!"}, {"a": "HEAL ME NOW"}, normalise="librispeech").errors == 0
    with pytest.raises(ValueError, match="librispeech"):
        score({"a": "x"}, {"a": "x"}, normalise="libri")


def test_whisper_english():
    pytest.importorskip("whisper_normalizer")
    assert score({"a": "Mr. Colour paid twenty dollars"}, {"a": "mister color paid $20"}, normalise="whisper-english").errors == 0


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
    modules = "wer statistics table texts normalise report calibration".split()
    code = ("import importlib.util, sys\n"
            f"for m in {modules}:\n"
            "    if importlib.util.find_spec('voxkit.eval.' + m): importlib.import_module('voxkit.eval.' + m)\n"
            "assert 'torch' not in sys.modules and 'lhotse' not in sys.modules")
    subprocess.run([sys.executable, "-c", "import importlib\n" + code], check=True)
