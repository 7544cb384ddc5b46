"""The contrast of carried, other and no state: what is read with what, and the figures made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.infer.test_adaptation import MODEL, write
from voxkit.cli.main import main
from voxkit.eval.intervals import paired_interval
from voxkit.experiments.contrast import READINGS, ContrastJob, _Heard, contrast, summary
from voxkit.infer.recognizer import Recognizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained checkpoint, and a set of three speakers with three utterances each."""
    import soundfile
    from lhotse import CutSet, Recording, SupervisionSegment

    folder, draw, cuts = tmp_path_factory.mktemp("contrast"), np.random.default_rng(0), []
    write(folder, 0)
    for n in range(9):
        soundfile.write(folder / f"u{n}.wav", draw.normal(0, 0.1, 9000 + 700 * n), 16000)
        cut = Recording.from_file(folder / f"u{n}.wav").to_cut().with_id(f"u{n}")
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording.id, 0.0, cut.duration, text="move now", speaker=f"s{n % 3}")]
        cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(folder / "cuts_test.jsonl.gz")
    return folder


def test_each_reading_has_the_state_that_it_says(folder):
    """`carried` is what calls of encode with their own state give, `other` with that of the speaker before, `reset` with none."""
    found = contrast(ContrastJob(str(folder / "run0"), ("test",), str(folder), utterances=3, device="cpu"))
    recognizer = Recognizer.load(folder / "run0")
    model, texts, own = recognizer.model, {name: {} for name in READINGS}, {}

    def read(path, state):
        from voxkit.infer.recognizer import SearchOptions, read_input

        with torch.no_grad():
            encoded = model.encode(read_input(path), state)
        return recognizer.search(encoded, SearchOptions())[0].text, encoded.carried

    for place in range(3):
        before = dict(own)
        for n in range(3 * place, 3 * place + 3):
            path, speaker = folder / f"u{n}.wav", n % 3
            texts["carried"][f"u{n}"], own[speaker] = read(path, before.get(speaker))
            texts["reset"][f"u{n}"], _ = read(path, None)
            if place:
                texts["other"][f"u{n}"], _ = read(path, before[(speaker - 1) % 3])
            model.encoder.set_updates(False)
            texts["still"][f"u{n}"], _ = read(path, None)
            model.encoder.set_updates(True)
    for name in READINGS:
        said = {u.id: " ".join(u.hypothesis) for u in found.results[name].utterances}
        assert said == {i: text for i, text in texts[name].items() if int(i[1:]) >= 3}, name
    assert (found.sessions, found.speakers) == (3, 3)
    assert [len(rates) for rates in found.by_place.values()] == [3, 3]


def test_figures_of_known_texts():
    """Carried makes one error in twelve words, reset three, another session's state three."""
    heard = [_Heard(f"{speaker}{place}", place, {name: "a b c" for name in READINGS if place or name in ("reset", "carried", "still")})
             for speaker in "xy" for place in range(3)]
    for one in heard:
        if one.place == 1:
            one.texts["reset"] = one.texts["other"] = "a b"
    heard[2].texts["reset"] = heard[2].texts["carried"] = "a b d"
    heard[5].texts["other"] = "b c"
    references = {one.id: "a b c" for one in heard}
    found = summary(heard, references, {one.id: one.id[0] for one in heard}, 2)
    assert [found.results[name].errors for name in READINGS] == [3, 1, 3, 0]
    assert found.differences["carried"][0] == pytest.approx(-2 / 3) and found.own_against_other[0] == pytest.approx(-2 / 3)
    assert found.by_place["reset"] == pytest.approx([0, 1 / 3, 1 / 6]) and found.by_place["carried"] == pytest.approx([0, 0, 1 / 6])
    with pytest.raises(ValueError, match="second utterance"):
        summary(heard[:1], references, {"x0": "x"}, 1)


def test_paired_intervals_resample_groups_together():
    errors, others, words = [1, 2, 0, 3], [2, 4, 0, 6], [10] * 4
    assert paired_interval(errors, others, words) == (-0.5, -0.5, -0.5), "half the errors everywhere is half in every sample"
    difference, low, high = paired_interval([0, 4], [4, 0], [10, 10], ["a", "b"])
    assert difference == 0 and low == -1 and high > 0
    assert paired_interval([1, 1], [2, 2], [10, 10], ["a", "a"])[1:] == (float("-inf"), float("inf"))
    with pytest.raises(ValueError, match="nothing to compare"):
        paired_interval([0], [0], [10])


def test_the_command_prints_and_writes(folder, tmp_path, capsys):
    assert main(["contrast", str(folder / "run0"), "--sets", "test", "--data-dir", str(folder), "--utterances", "3", "--device", "cpu",
                 "--out", str(tmp_path / "found.json"), "data.sessions.dev_condition.gain_prob=1.0"]) == 0
    said = capsys.readouterr().out
    assert "another session's state" in said and "own state against another session's" in said
    assert '"relative_to_reset"' in (tmp_path / "found.json").read_text()


def test_a_model_that_carries_nothing_is_refused(tmp_path):
    model = {**MODEL, "encoder": {"kind": "transformer", "dim": 16, "heads": 2, "ffn": 24, "layers": 1}}
    write(tmp_path, 0, model)
    with pytest.raises(ValueError, match="carries nothing"):
        contrast(ContrastJob(str(tmp_path / "run0"), ("test",), str(tmp_path), device="cpu"))
