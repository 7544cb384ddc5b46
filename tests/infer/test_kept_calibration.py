"""What is fitted on a dev set and kept with a run."""

import random
from types import SimpleNamespace

import pytest

from tests.text.vocabularies import Pieces
from voxkit.align.spans import TokenSpan
from voxkit.align.timing import TokenTiming, WordTiming
from voxkit.align.words import words_from_tokens
from voxkit.eval.calibration import judged
from voxkit.hypothesis import Hypothesis, Word
from voxkit.infer.alignment import Aligned
from voxkit.infer.calibration import fit_confidence, fit_timing, read_calibration, timing_of, write_calibration

PIECES = Pieces(["<blk>", "<s>", "</s>", "<unk>", "▁HEAL", "▁", "ME", "▁WA", "RD"])
WORDS = {"HEAL": [4], "ME": [5, 6], "WARD": [7, 8]}
STEP = 0.04


def corpus(count, seed):
    """Utterances whose words spike at a place that depends on the word: HEAL early, ME late, WARD in the middle."""
    rng = random.Random(seed)
    early = {"HEAL": 0.06, "ME": 0.18, "WARD": 0.12}
    aligned, true = {}, {}
    for n in range(count):
        at, words, spans = 0.1, [], []
        for _ in range(4):
            word = rng.choice(list(WORDS))
            end = at + 0.4 + 0.02 * rng.random()
            frame = round((at + early[word]) / STEP)
            for i, token in enumerate(WORDS[word]):
                spans.append(TokenSpan(token, frame + 2 * i, frame + 2 * i + 1, -0.1, -0.1))
            words.append(Word(word, at, end, 1.0))
            at = end + 0.1
        aligned[str(n)] = Aligned(spans, -1.0, [s.token for s in spans], at)
        true[str(n)] = words
    return aligned, true


def test_word_times_are_fitted_per_token():
    recognizer = SimpleNamespace(model=SimpleNamespace(seconds_per_frame=STEP), vocabulary=PIECES)
    aligned, true = corpus(60, 0)
    fitted = fit_timing(recognizer, aligned, true)
    assert fitted["error_held_out"] < 0.02 < 0.6 * fitted["error_shifted"] < fitted["error_plain"]
    timing = timing_of({"timing": fitted})
    assert isinstance(timing, TokenTiming)
    other, known = corpus(10, 1)
    for id, a in other.items():
        found = words_from_tokens(a.spans, PIECES, STEP, timing=timing, duration=a.seconds)
        assert [w.word for w in found] == [w.word for w in known[id]]
        assert max(abs(f.start - k.start) for f, k in zip(found, known[id])) < 0.04


@pytest.mark.parametrize("utterances, words", [(0, 0), (1, 4), (2, 8)])
def test_a_few_words_fit_nothing(utterances, words):
    recognizer = SimpleNamespace(model=SimpleNamespace(seconds_per_frame=STEP), vocabulary=PIECES)
    with pytest.raises(ValueError, match=f"^{words} words of the calibration set have known times and could be aligned, and it takes 10"):
        fit_timing(recognizer, *corpus(utterances, 0))
    assert fit_timing(recognizer, *corpus(3, 0))["words"] == 12


def test_no_known_times():
    with pytest.raises(ValueError, match="no word with a known time"):
        TokenTiming.fit([], STEP)


def test_confidences_are_fitted_and_kept(tmp_path):
    rng = random.Random(0)
    references, hypotheses = {}, {}
    for n in range(300):  # says 0.95 of everything, and is right in 70 %
        right = rng.random() < 0.7
        references[str(n)] = "heal"
        hypotheses[str(n)] = Hypothesis("", [Word("HEAL" if right else "WARD", 0, 1, 0.95)])
    fitted = fit_confidence(references, hypotheses, str.lower)
    assert fitted["ece_before"] > 0.2 and fitted["ece_after"] < 0.03 and fitted["temperature"] < 0.3
    assert sum(judged(references, {id: h.words for id, h in hypotheses.items()})[1]) == 0  # without the rule, HEAL is not heal
    write_calibration(tmp_path, {"methods": {"greedy": fitted}, "timing": {"start_shift": -0.1, "end_shift": 0.2}})
    kept = read_calibration(tmp_path)
    assert kept["methods"]["greedy"] == fitted and timing_of(kept) == WordTiming(-0.1, 0.2)
    references = {str(n): "HEAL" for n in range(300)}
    hypotheses = {id: Hypothesis("", [Word("WARD" if int(id) < 4 else "HEAL", 0, 1, 0.9)]) for id in references}
    with pytest.raises(ValueError, match="of 300 words of the calibration set 4 are wrong and 296 right, and it takes 5 of both"):
        fit_confidence(references, hypotheses)
