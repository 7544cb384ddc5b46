import numpy as np
import pytest

from voxkit.eval.calibration import apply_temperature, calibration, fit_temperature, right_words


def test_temperature_mends_overconfidence():
    rng = np.random.default_rng(0)
    true = rng.uniform(0.3, 1.0, 20_000)
    correct = rng.random(20_000) < true
    shown = true ** (1 / 3)  # too sure
    before = calibration(shown, correct)
    temperature = fit_temperature(shown, correct)
    after = calibration(apply_temperature(shown, temperature), correct)
    assert temperature == pytest.approx(1 / 3, rel=0.05)
    assert after.error < 0.02 < 0.15 < before.error and after.nce > before.nce
    assert sum(n for _, _, n in after.bins) == 20_000


def test_right_words():
    assert right_words("heal me now".split(), "heal him now now".split()) in ([True, False, False, True], [True, False, True, False])


def test_perfect_and_bad_input():
    perfect = calibration([1.0, 1.0], [True, True])
    assert perfect.error == 0 and perfect.accuracy == 1
    for confidences, correct, message in [([], [], "no words"), ([0.5], [True, False], "one for each"), ([1.5], [True], "0 to 1")]:
        with pytest.raises(ValueError, match=message):
            calibration(confidences, correct)
