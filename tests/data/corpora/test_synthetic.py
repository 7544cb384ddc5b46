"""Synthetic speech for lines of text."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from voxkit.audio.io import RATE, read_audio
from voxkit.cli.main import main
from voxkit.data.corpora import synthetic
from voxkit.data.corpora.synthesis import engines
from voxkit.data.corpora.synthetic import SyntheticConfig, prepare_synthetic
from voxkit.data.manifests import load_cuts
from voxkit.optional import MissingPackage

LINES = ["PUSH THE LEFT LANE", "HEAL ME NOW", "THE DRAGON'S NEST IS UNGUARDED AND THE ENEMY WILL NOT BE BACK FOR HALF A MINUTE", "RETREAT"]
pytest.importorskip("espeakng_loader")
PACKAGES = {"hibari": "hibari", "pico:en-US": "py_nanotts", "pico:en-GB": "py_nanotts", "espeak": "espeakng_loader"}


def lines(folder: Path, *texts: str) -> str:
    path = folder / "lines.txt"
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return str(path)


def made(folder: Path) -> list:
    return list(load_cuts(folder / "cuts_synthetic.jsonl.gz"))


@pytest.mark.parametrize("voice", PACKAGES)
def test_every_voice_says_the_lines(voice, tmp_path):
    pytest.importorskip(PACKAGES[voice])
    prepare_synthetic(tmp_path / "data", SyntheticConfig(lines(tmp_path, *LINES), voices=[voice]), jobs=1)
    cuts = made(tmp_path / "data")
    assert [cut.supervisions[0].text for cut in cuts] == LINES
    seconds = {}
    for cut in cuts:
        wave, length = read_audio(cut.recording.sources[0].source)
        assert cut.sampling_rate == RATE and length == pytest.approx(cut.duration) and cut.supervisions[0].speaker == voice
        assert 10 ** (-32.5 / 20) < np.sqrt(np.mean(wave.numpy() ** 2)) < 10 ** (-17.5 / 20)
        seconds[cut.supervisions[0].text] = cut.duration
    assert 3.5 < seconds[LINES[2]] < 12 and 0.4 < seconds[LINES[3]] < 2.5 and seconds[LINES[2]] > 2 * seconds[LINES[0]]


def test_the_same_options_give_the_same_speech(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_BLOCK", 3)
    text = lines(tmp_path, *LINES)
    sound = {}
    for name, seed, jobs in (("one", 0, 1), ("two", 0, 2), ("three", 1, 1)):
        prepare_synthetic(tmp_path / name, SyntheticConfig(text, times=2, seed=seed), jobs=jobs)
        cuts = made(tmp_path / name)
        assert len(cuts) == 2 * len(LINES)
        sound[name] = [read_audio(cut.recording.sources[0].source)[0].numpy() for cut in cuts]
    assert all(np.array_equal(a, b) for a, b in zip(sound["one"], sound["two"]))
    assert not any(np.array_equal(a, b) for a, b in zip(sound["one"], sound["three"]))
    assert not any(np.array_equal(a, b) for a, b in zip(sound["one"][:4], sound["one"][4:]))  # another speaker each time


class Tone:
    """A second of a tone for anything but `heal`."""

    def say(self, text, rng):
        if "heal" in text:
            raise RuntimeError("no such word")
        return (0.001 if "retreat" in text else 0.1) * np.sin(np.arange(64000) / 9).astype(np.float32), 16000


def test_voices_are_drawn_as_often_as_they_are_named(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(synthetic, "open_engine", lambda name, seed=0: opened.append(name) or Tone())
    text = lines(tmp_path, *LINES[:1] * 300)
    prepare_synthetic(tmp_path / "data", SyntheticConfig(text, voices=["a", "b", "a"]), jobs=1)
    cuts = made(tmp_path / "data")
    said = [cut.supervisions[0].speaker for cut in cuts]
    assert [cut.id for cut in cuts] == [f"synthetic-{n:06d}" for n in range(300)]
    assert 170 < said.count("a") < 230 and set(said) == {"a", "b"}
    assert len(opened) == 2 + 6 * 2  # once to see that they are there, then once a block
    prepare_synthetic(tmp_path / "few", SyntheticConfig(text, voices=["a", "b", "a"], hours=100 / 3600), jobs=1)
    cuts = made(tmp_path / "few")
    assert [cut.id for cut in cuts] == [f"synthetic-{n:06d}" for n in range(len(cuts))]  # the first lines, whoever says them
    assert 100 <= sum(cut.duration for cut in cuts) < 105


def test_speed_is_perturbed_by_no_more_than_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "open_engine", lambda name, seed=0: Tone())
    text = lines(tmp_path, *LINES[:1] * 60)
    for share in (0.0, 0.1):
        prepare_synthetic(tmp_path / str(share), SyntheticConfig(text, speed_perturb=share), jobs=1)
        seconds = [cut.duration for cut in made(tmp_path / str(share))]
        assert min(seconds) == pytest.approx(4 / (1 + share), rel=0.03) and max(seconds) == pytest.approx(4 / (1 - share), rel=0.03)
        assert all(4 / (1 + share) - 0.01 <= x <= 4 / (1 - share) + 0.01 for x in seconds)


def test_what_would_be_read_out_otherwise_is_left_out_and_counted(tmp_path):
    text = lines(tmp_path, "Enemy landing zone detected", "Unit 12, report!", "", "Well, 'tis done: twenty-one units don't answer?",
                 "100 %", "кот")
    preparation = prepare_synthetic(tmp_path / "data", SyntheticConfig(text), jobs=1)
    assert [cut.supervisions[0].text for cut in made(tmp_path / "data")] == ["Enemy landing zone detected",
                                                                             "Well, 'tis done: twenty-one units don't answer?"]
    assert preparation.reports["synthetic"].notes["lines with figures, signs or other letters, left out"] == 3
    with pytest.raises(ValueError, match="no line is of Latin letters"):
        prepare_synthetic(tmp_path / "none", SyntheticConfig(lines(tmp_path, "1 2 3", "'")), jobs=1)


def test_hours_end_it(tmp_path):
    text = lines(tmp_path, *LINES * 20)
    prepare_synthetic(tmp_path / "data", SyntheticConfig(text, hours=20 / 3600), jobs=1)
    cuts = made(tmp_path / "data")
    assert 20 <= sum(cut.duration for cut in cuts) < 32
    assert {path.name for path in (tmp_path / "data/audio/synthetic").iterdir()} == {f"{cut.id}.flac" for cut in cuts}


def test_what_a_voice_cannot_say_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "open_engine", lambda name, seed=0: Tone())
    preparation = prepare_synthetic(tmp_path / "data", SyntheticConfig(lines(tmp_path, *LINES)), jobs=1)
    assert [cut.supervisions[0].text for cut in made(tmp_path / "data")] == [LINES[0], LINES[2]]
    assert preparation.reports["synthetic"].notes == {"utterances that their voice could not say": 2}


def test_a_voice_that_says_nothing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "open_engine", lambda name, seed=0: Tone())
    with pytest.raises(ValueError, match="mute: no speech came of any line of .*lines.txt; try other --voices"):
        prepare_synthetic(tmp_path / "data", SyntheticConfig(lines(tmp_path, LINES[1]), voices=["mute"]), jobs=1)


def test_pico_has_no_speech_for_letters_that_it_does_not_know():
    pytest.importorskip("py_nanotts")
    engine, rng = engines.open_engine("pico:en-US"), np.random.default_rng(0)
    assert engines.speech(engine, "кот", rng) is None and engines.speech(engine, "cat", rng) is not None


def test_what_is_there_of_others_stays(tmp_path):
    text, out = lines(tmp_path, *LINES), tmp_path / "data"
    (out / "audio/train").mkdir(parents=True)
    (out / "audio/train/r.flac").touch()
    (out / "prepare.json").write_text(json.dumps({"splits": {"train": {"corpus": "folder"}}}))
    for split in (".", "..", "a/b", "a\\b", "", "*", ".hidden"):
        with pytest.raises(ValueError, match="cannot be the name of a split"):
            prepare_synthetic(out, SyntheticConfig(text, split=split), jobs=1)
    with pytest.raises(ValueError, match="'train' is in .* already, made by `voxkit prepare folder`.*--split"):
        prepare_synthetic(out, SyntheticConfig(text, split="train"), jobs=1)
    assert (out / "audio/train/r.flac").is_file()


def test_the_text_decides_and_not_its_file(tmp_path):
    prepare_synthetic(tmp_path / "data", SyntheticConfig(lines(tmp_path, *LINES)), jobs=1)
    there = (tmp_path / "data/cuts_synthetic.jsonl.gz").stat().st_mtime_ns
    (tmp_path / "other").mkdir()
    prepare_synthetic(tmp_path / "data", SyntheticConfig(lines(tmp_path / "other", *LINES)), jobs=1)
    assert (tmp_path / "data/cuts_synthetic.jsonl.gz").stat().st_mtime_ns == there
    prepare_synthetic(tmp_path / "data", SyntheticConfig(lines(tmp_path, *LINES[:2])), jobs=1)
    assert len(made(tmp_path / "data")) == 2


def test_wrong_options_are_named(tmp_path, monkeypatch):
    text = lines(tmp_path, *LINES)
    for change, message in (({"lines": str(tmp_path / "no.txt")}, "no.txt' is no file"), ({"voices": []}, "voices: none"),
                            ({"times": 0}, "times: 0"),
                            ({"speed_perturb": 0.5}, "speed_perturb: 0.5"), ({"seed": -1}, "seed: -1 is negative"),
                            ({"hours": -1.0}, "hours: -1.0 is negative"),
                            ({"split": "a/b"}, "split: 'a/b'"), ({"voices": ["festival"]}, "'festival' is no voice: hibari"),
                            ({"voices": ["espeak:f3"]}, "'espeak:f3' is no voice")):
        with pytest.raises(ValueError, match=message):
            prepare_synthetic(tmp_path / "data", SyntheticConfig(**{"lines": text, **change}), jobs=1)
    monkeypatch.setitem(sys.modules, "py_nanotts", None)
    engines._opened.cache_clear()
    with pytest.raises(MissingPackage, match=r"pip install 'voxkit\[tts\]'"):
        prepare_synthetic(tmp_path / "data", SyntheticConfig(text, voices=["pico:en-GB"]), jobs=1)
    assert not (tmp_path / "data").exists()


def test_a_wrong_voice_of_an_engine_is_named():
    for package, name, message in (("py_nanotts", "pico:de-DE", "pico:en-US, pico:en-GB"),
                                   ("hibari", "hibari:nobody", "hibari --list-voices")):
        pytest.importorskip(package)
        with pytest.raises(ValueError, match=message):
            engines.open_engine(name)


def test_command(tmp_path, capsys):
    command = ["prepare", "synthetic", "--lines", lines(tmp_path, *LINES), "--split", "calls", "--times", "2", "--out",
               str(tmp_path / "data"), "--jobs", "1"]
    assert not main(command)
    assert "calls" in capsys.readouterr().out
    there = (tmp_path / "data/cuts_calls.jsonl.gz").stat().st_mtime_ns
    assert not main(command) and (tmp_path / "data/cuts_calls.jsonl.gz").stat().st_mtime_ns == there
    made_by = json.loads((tmp_path / "data/prepare.json").read_text())["splits"]["calls"]
    assert made_by["corpus"] == "synthetic" and made_by["cuts"] == 2 * len(LINES)


def test_a_pack_is_said_with_its_meaning_by_voices_that_were_not_learned_from(tmp_path, capsys):
    data = str(tmp_path / "data")
    common = ["prepare", "synthetic", "--pack", "shooter", "--out", data, "--jobs", "1", "--text", "librispeech"]
    assert main([*common, "--part", "train", "--count", "6", "--voices", "espeak"]) == 0
    cuts = made(tmp_path / "data")
    from voxkit.text.intents import Matcher
    from voxkit.text.pack import load_pack
    from voxkit.text.pack_sentences import part_of

    matcher = Matcher(load_pack("shooter"))
    assert len(cuts) == 6
    for cut in cuts:
        said = cut.supervisions[0]
        answer = matcher.answer(said.text)
        assert part_of(said.text) == "train" and (answer.intent, answer.slots) == (said.custom["intent"], said.custom["slots"])
    test = [*common, "--part", "test", "--split", "held", "--count", "2", "--other-voices-than", "synthetic"]
    assert main([*test, "--voices", "espeak"]) == 2
    assert "--voices espeak: split synthetic has them too" in capsys.readouterr().err
    with pytest.raises(ValueError, match="give one of the two"):
        prepare_synthetic(tmp_path / "x", SyntheticConfig(lines(tmp_path, *LINES), pack="shooter"))
    with pytest.raises(ValueError, match="no synthetic split of this name"):
        prepare_synthetic(tmp_path / "x", SyntheticConfig(pack="shooter", other_voices_than=["synthetic"]))
