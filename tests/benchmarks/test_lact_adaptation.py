"""A small run of the experiment with a hidden channel: a state that was carried in training helps, and only the session's own."""

import pytest
import torch

from benchmarks.lact_adaptation import MODES, errors, interval, make_model, make_sessions, rate, train


@pytest.mark.slow
def test_carried_state_helps_and_only_its_own():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = make_model(carry=True, seed=0)
        train(model, steps=150, seed=0)
        counts = {mode: errors(model, make_sessions(torch.Generator().manual_seed(1000), 60, 8), mode) for mode in MODES}
    finally:
        torch.set_num_threads(threads)
    assert rate(counts["carried"]) < 0.9 * rate(counts["reset"])
    assert interval(counts["carried"], counts["reset"])[1] < 0
    assert rate(counts["other"]) > rate(counts["carried"]) and rate(counts["other"]) > 0.97 * rate(counts["reset"])
