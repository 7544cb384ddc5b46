"""Utterances put together from runs of words of others."""

import random
from dataclasses import asdict

import numpy as np
import pytest
from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from voxkit.audio.io import RATE, read_audio, write_audio
from voxkit.cli.main import main
from voxkit.data.manifests import load_cuts, save_cuts
from voxkit.data.recipes.spliced import Inventory, Source, SplicedConfig, prepare_spliced, splice
from voxkit.data.validate import mono_cut

PITCH = {"heal": 300, "me": 500, "now": 800, "push": 1200, "left": 1700, "lane": 2300}
SAID = {"anna-0": ("anna", "heal me now", 0.1), "anna-1": ("anna", "push left lane", 0.1), "bob-0": ("bob", "heal me", 0.4),
        "bob-1": ("bob", "me now push", 0.4)}
WORD, PAUSE = 0.2, 0.06  # seconds


def tone(word, level):
    return level * np.sin(2 * np.pi * PITCH[word] * np.arange(round(WORD * RATE)) / RATE)


@pytest.fixture
def aligned(tmp_path):
    """Every word a tone of its own, a pause before and behind each."""
    cuts = []
    for id, (speaker, text, level) in SAID.items():
        pause = np.zeros(round(PAUSE * RATE))
        pieces, items, at = [pause], [], PAUSE
        for word in text.split():
            pieces += [tone(word, level), pause]
            items.append(AlignmentItem(word, round(at, 4), WORD))
            at += WORD + PAUSE
        path = write_audio(tmp_path / "audio" / f"{id}.flac", np.concatenate(pieces).astype(np.float32))
        recording = Recording.from_file(path, recording_id=id)
        cuts.append(mono_cut(recording, SupervisionSegment(id, id, 0.0, recording.duration, text=text, speaker=speaker,
                                                           alignment={"word": items})))
    save_cuts(CutSet.from_cuts(cuts), tmp_path / "aligned" / "cuts_train.jsonl.gz")
    return tmp_path / "aligned" / "cuts_train.jsonl.gz"


def lines(tmp_path, *texts):
    path = tmp_path / "lines.txt"
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def test_what_is_heard_at_the_times_is_the_words(aligned, tmp_path):
    config = SplicedConfig(str(aligned), str(lines(tmp_path, "push me now", "left lane heal me now push", "now now now")), fewest=2)
    prepare_spliced(tmp_path / "data", config, jobs=1)
    cuts = list(load_cuts(tmp_path / "data" / "cuts_spliced.jsonl.gz"))
    assert [cut.supervisions[0].text for cut in cuts] == ["push me now", "left lane heal me now push", "now now now"]
    for cut in cuts:
        wave, seconds = read_audio(cut.recording.sources[0].source)
        assert seconds == pytest.approx(cut.duration)
        items = cut.supervisions[0].alignment["word"]
        assert " ".join(item.symbol for item in items) == cut.supervisions[0].text
        for item in items:
            piece = wave[round((item.start + 0.02) * RATE):round((item.end - 0.02) * RATE)].numpy()
            spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
            assert spectrum.argmax() * RATE / len(piece) == pytest.approx(PITCH[item.symbol], abs=8)
            assert np.sqrt(np.mean(piece ** 2)) == pytest.approx(0.0715, rel=0.05)  # of both speakers: 0.06 with the pauses
        for before, item in zip(items, items[1:]):
            assert PAUSE - 0.006 <= item.start - before.end <= 2 * PAUSE  # half of one each, a whole one where an utterance ends


def test_a_line_is_said_in_few_runs_of_few_speakers():
    sources = []
    for id, (speaker, text, _) in SAID.items():
        words = tuple((word, 0.3 * n + 0.05, 0.3 * n + 0.25) for n, word in enumerate(text.split()))
        sources.append(Source(id, speaker, 0.0, 1.0, words, tuple(0.3 * n for n in range(len(words) + 1))))
    inventory, rng = Inventory(sources, 3), random.Random(0)
    heard = set()
    for _ in range(20):
        found = inventory.cover("heal me now push left lane".split(), rng)
        assert [[word for word, *_ in run.words] for run in found] == [["heal", "me", "now"], ["push", "left", "lane"]]
        found = inventory.cover("heal me heal me push".split(), rng)
        assert len(found) == 3 and len({run.source.split("-")[0] for run in found}) == 1  # who begins goes on: both have all of it
        heard |= {run.source for run in found}
    assert heard == set(SAID)


def test_a_shift_moves_what_is_cut_but_for_the_first_beginning(aligned, tmp_path):
    """An early clock: with as much of a shift the same is heard as with the right one."""
    right, early = (SplicedConfig(str(aligned), str(lines(tmp_path, "push left me now")), split=split) for split in ("right", "early"))
    late = list(load_cuts(aligned))
    for cut in late:
        items = cut.supervisions[0].alignment["word"]
        cut.supervisions[0].alignment["word"] = [items[0], *(item.with_offset(-0.05) for item in items[1:])]
    for cut in late:  # the first word's end moves too, its beginning does not
        first, *rest = cut.supervisions[0].alignment["word"]
        cut.supervisions[0].alignment["word"] = [first._replace(duration=first.duration - 0.05), *rest]
    save_cuts(CutSet.from_cuts(late), tmp_path / "cuts_early.jsonl.gz")
    prepare_spliced(tmp_path / "data", right, jobs=1)
    early = SplicedConfig(**{**asdict(early), "cuts": str(tmp_path / "cuts_early.jsonl.gz"), "shift": 0.05})
    prepare_spliced(tmp_path / "data", early, jobs=1)
    a, b = (read_audio(tmp_path / "data" / "audio" / split / f"{split}-000000.flac")[0] for split in ("right", "early"))
    assert abs(len(a) - len(b)) < 0.06 * RATE
    times = [next(iter(load_cuts(tmp_path / "data" / f"cuts_{split}.jsonl.gz"))).supervisions[0].alignment["word"] for split in
             ("right", "early")]
    for x, y in zip(*times):
        assert x.symbol == y.symbol and x.start == pytest.approx(y.start, abs=0.06) and x.duration == pytest.approx(y.duration, abs=0.002)


def test_utterances_that_are_parts_of_a_recording(aligned, tmp_path):
    """Word times are in the recording's time, as `voxkit align --out-cuts` writes them and lhotse has them."""
    parts = []
    for cut in load_cuts(aligned):
        word = cut.supervisions[0].alignment["word"][1]
        part = cut.truncate(offset=word.start - 0.03, duration=word.duration + 0.06, preserve_id=True)
        part.supervisions[0].alignment, part.supervisions[0].text = {"word": [word]}, word.symbol
        parts.append(part)
    save_cuts(CutSet.from_cuts(parts), tmp_path / "cuts_parts.jsonl.gz")
    config = SplicedConfig(str(tmp_path / "cuts_parts.jsonl.gz"), str(lines(tmp_path, "now left me")), fewest=1)
    prepare_spliced(tmp_path / "data", config, jobs=1)
    made = list(load_cuts(tmp_path / "data" / "cuts_spliced.jsonl.gz"))
    assert [cut.supervisions[0].text for cut in made] == ["now left me"]
    for cut in made:
        wave, _ = read_audio(cut.recording.sources[0].source)
        for item in cut.supervisions[0].alignment["word"]:
            piece = wave[round((item.start + 0.02) * RATE):round((item.end - 0.02) * RATE)].numpy()
            spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
            assert spectrum.argmax() * RATE / len(piece) == pytest.approx(PITCH[item.symbol], abs=8)


def test_unknown_words_end_an_utterance_and_are_counted(aligned, tmp_path):
    config = SplicedConfig(str(aligned), str(lines(tmp_path, "heal me ward push left dragon now", "ward")), fewest=2)
    preparation = prepare_spliced(tmp_path / "data", config, jobs=1)
    assert [cut.supervisions[0].text for cut in load_cuts(tmp_path / "data" / "cuts_spliced.jsonl.gz")] == ["heal me", "push left"]
    assert "words of the lines that no utterance has: 3" in preparation.table()


def test_hours_bound_it_and_the_same_options_make_it_once(aligned, tmp_path):
    config = SplicedConfig(str(aligned), str(lines(tmp_path, *["heal me push"] * 50)), hours=10 / 3600)
    report = prepare_spliced(tmp_path / "data", config, jobs=1).reports["spliced"]
    assert 10 <= report.seconds < 12
    audio = sorted((tmp_path / "data" / "audio" / "spliced").iterdir())
    before = [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in audio]
    prepare_spliced(tmp_path / "data", config, jobs=1)
    assert [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in audio] == before
    again = prepare_spliced(tmp_path / "again", config, jobs=1)
    assert again.reports["spliced"].seconds == report.seconds
    assert [path.read_bytes() for path in sorted((tmp_path / "again" / "audio" / "spliced").iterdir())] == [kept for *_, kept in before]
    other = prepare_spliced(tmp_path / "data", SplicedConfig(**{**asdict(config), "seed": 1}), jobs=1)
    assert other.reports["spliced"].kept and [path.read_bytes() for path in audio if path.is_file()] != [kept for *_, kept in before]


def test_joints_keep_the_power_and_have_no_clicks():
    pieces = [np.ones(400, np.float32), np.ones(300, np.float32)]
    out = splice(pieces, 80)
    assert len(out) == 620
    assert np.allclose(out[80:-80], 1, atol=1e-6)  # sin² + cos²
    assert np.abs(np.diff(out)).max() < 0.02


def test_the_command_and_what_it_refuses(aligned, tmp_path, capsys):
    text = str(lines(tmp_path, "HEAL me, now!"))
    options = ["prepare", "spliced", "--lines", text, "--out", str(tmp_path / "data"), "--jobs", "1"]
    assert main([*options, "--cuts", str(aligned), "--text", "lower", "--split", "game"]) == 2  # "me," is no word
    assert "no line has 3 words one after the other" in capsys.readouterr().err
    lines(tmp_path, "HEAL me now")
    assert main([*options, "--cuts", str(aligned), "--text", "lower", "--split", "game"]) == 0
    assert [cut.supervisions[0].text for cut in load_cuts(tmp_path / "data" / "cuts_game.jsonl.gz")] == ["heal me now"]
    save_cuts(CutSet.from_cuts(_untimed(aligned)), tmp_path / "cuts_untimed.jsonl.gz")
    assert main([*options, "--cuts", str(tmp_path / "cuts_untimed.jsonl.gz")]) == 2
    assert "voxkit align RUN --cuts CUTS --out-cuts" in capsys.readouterr().err
    for wrong, message in ((["--cuts", "nowhere.jsonl.gz"], "cuts: 'nowhere.jsonl.gz' is no file"),
                           (["--cuts", str(aligned), "--longest", "0"], "longest: 0"),
                           (["--cuts", str(aligned), "--hours", "-1"], "hours: -1.0"),
                           (["--cuts", str(aligned), "--split", "a/b"], "split: 'a/b'")):
        assert main([*options, *wrong]) == 2
        assert message in capsys.readouterr().err


def _untimed(path):
    for cut in load_cuts(path):
        cut.supervisions[0].alignment = None
        yield cut
