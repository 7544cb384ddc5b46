import json

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.data.corpora import load_cuts, toy
from voxkit.data.corpora.synthesis import grammar, sounds
from voxkit.data.corpora.synthesis.espeak import Synthesizer
from voxkit.data.corpora.synthesis.utterance import make_block
from voxkit.data.corpora.synthesis.voices import timbre
from voxkit.data.corpora.toy import ToyConfig, plan, prepare_toy, split_voices

pytest.importorskip("espeakng_loader")
SMALL = ToyConfig(num_train=14, num_dev=4, num_test=4, num_domain=4)
SPLITS = ["train", "dev", "test", "train_domain", "dev_domain", "test_domain"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy")
    return out, prepare_toy(out, SMALL, jobs=1)


def test_splits_audio_and_words(made):
    out, preparation = made
    assert list(preparation.reports) == SPLITS
    assert [preparation.reports[s].kept for s in SPLITS] == [14, 4, 4, 4, 2, 2]
    for split in SPLITS:
        for cut in load_cuts(out / f"cuts_{split}.jsonl.gz"):
            (supervision,) = cut.supervisions
            audio = cut.load_audio()
            assert cut.sampling_rate == 16000 and audio.shape == (1, cut.num_samples) and 0.02 < np.abs(audio).max() < 1
            words = supervision.alignment["word"]
            assert " ".join(w.symbol for w in words) == supervision.text
            assert all(a.end <= b.start + 1e-6 for a, b in zip(words, words[1:]))
            assert words[0].start > 0.09 and words[-1].end < cut.duration - 0.09 and all(w.duration > 0.05 for w in words)


def test_words_are_where_the_alignment_says(tmp_path):
    from voxkit.data.corpora.synthesis.utterance import lay_down, trim

    synthesizer = Synthesizer()
    synthesizer.set_voice("en-us", "m3", rate=160, pitch=50, pitch_range=50)
    said = [(w, trim(synthesizer.say(w.lower()))) for w in ("HEAL", "ME", "NOW")]
    speech, words = lay_down(np.random.default_rng(0), said, 22050)
    inside = np.zeros(len(speech), bool)
    for _, start, duration in words:
        inside[int(start * 22050) - 2:int((start + duration) * 22050) + 2] = True
    assert not speech[~inside].any() and np.abs(speech[inside]).max() > 0.1


def test_held_out_sentences_and_voices():
    plans = plan(ToyConfig())
    for field in ("text", "variant"):
        seen = {part: {getattr(u, field) for split in (part, f"{part}_domain") for u in plans[split]} for part in ("train", "dev", "test")}
        assert not seen["train"] & seen["dev"] and not seen["train"] & seen["test"] and not seen["dev"] & seen["test"]
    assert {w for u in plans["test"] for w in u.text.split()} <= {w for u in plans["train"] for w in u.text.split()}
    voices = [v for part in split_voices().values() for v in part]
    assert len(set(voices)) == len(voices) and {u.variant for us in plans.values() for u in us} <= set(voices)


def test_every_speaker_sounds_like_nobody_else():
    assert timbre("test000", 0) == timbre("test000", 0) != timbre("test001", 0)
    assert timbre("test000", 0) != timbre("test000", 1)
    synthesizer = Synthesizer(0, {name: timbre(name, 0) for name in ("test000", "test001")})
    said = {}
    for name in ("test000", "test001"):
        synthesizer.set_voice("en-us", name, rate=180, pitch=50, pitch_range=50)
        said[name] = synthesizer.say("heal me now")
        assert np.abs(said[name]).max() > 0.05
    assert not np.array_equal(*(x[:10000] for x in said.values()))
    with pytest.raises(ValueError, match="no voice"):
        synthesizer.set_voice("en-us", "f3", rate=180, pitch=50, pitch_range=50)


def test_the_grammar():
    assert 60 <= len(grammar.vocabulary()) <= 120
    assert sum(len(grammar.expand(t)) for templates in grammar.TEMPLATES.values() for t in templates) > 2000
    assert "HEAL ME NOW" in grammar.expand("{aid} {whom} {hurry?}") and "HEAL ME" in grammar.expand("{aid} {whom} {hurry?}")
    for domain in grammar.TEMPLATES:
        assert sum(map(len, grammar.sentences(domain, "test", 0))) > 100


def samples(out):
    return {p.name: soundfile.read(p)[0].tobytes() for p in sorted(out.rglob("*.flac"))}


def test_same_options_same_samples_in_other_processes(made, tmp_path):
    prepare_toy(tmp_path, SMALL, jobs=2)
    assert samples(tmp_path) == samples(made[0])


def test_a_second_run_makes_nothing(made, monkeypatch):
    monkeypatch.setattr(toy, "_make", lambda *_: pytest.fail("made again"))
    again = prepare_toy(made[0], SMALL)
    assert again.reports == made[1].reports


def test_the_data_directory_can_be_moved(made, tmp_path):
    moved = tmp_path / "elsewhere"
    made[0].rename(moved)
    try:
        assert next(iter(load_cuts(moved / "cuts_dev.jsonl.gz"))).load_audio().size
    finally:
        moved.rename(made[0])


def test_another_seed_is_another_corpus():
    first, second = plan(SMALL), plan(ToyConfig(**{**SMALL.__dict__, "seed": 1}))
    assert [u.text for u in first["train"]] != [u.text for u in second["train"]]


def test_sizes_are_checked(tmp_path):
    with pytest.raises(ValueError, match="num_dev: 0"):
        prepare_toy(tmp_path, ToyConfig(num_dev=0))


def test_commands(made, tmp_path, capsys):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.__dict__.items()]
    assert main(["prepare", "toy", "--out", str(made[0]), *options]) == 0
    assert "train_domain" in capsys.readouterr().out
    cuts = [str(made[0] / f"cuts_{s}.jsonl.gz") for s in ("train", "train_domain")]
    assert main(["tokenize", "--cuts", *cuts, "--kind", "char", "--out", str(tmp_path / "char")]) == 0
    assert main(["tokenize", "--cuts", *cuts, "--vocab-size", "60", "--out", str(tmp_path / "bpe")]) == 0
    assert (tmp_path / "bpe/tokens.txt").read_text().splitlines()[0] == "<blk> 0"
    assert main(["tokenize", "--cuts", *cuts, "--vocab-size", "9999", "--out", str(tmp_path / "bpe")]) == 2
    assert "largest that works" in capsys.readouterr().err
    assert main(["tokenize", "--cuts", str(made[0] / "cuts_none.jsonl.gz"), "--out", str(tmp_path)]) == 2
    assert "cuts_train.jsonl.gz" in capsys.readouterr().err


def test_a_split_is_finished_while_others_are_still_made(tmp_path, monkeypatch):
    def until_the_domain(block):
        if "domain" in block.directory:
            raise OSError("the disk is full")
        return make_block(block)

    monkeypatch.setattr(toy, "make_block", until_the_domain)
    with pytest.raises(OSError, match="the disk is full"):
        prepare_toy(tmp_path, SMALL, jobs=1)
    assert sorted(json.loads((tmp_path / "prepare.json").read_text())["splits"]) == ["dev", "test", "train"]


def test_prepare_json_says_how(made):
    made_by = json.loads((made[0] / "prepare.json").read_text())["splits"]["train"]
    assert made_by["corpus"] == "toy" and made_by["options"]["num_train"] == 14 and made_by["cuts"] == 14


@pytest.mark.parametrize("noise", sounds.NOISES)
def test_noises_have_their_ratio(noise):
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(16000)
    mixed = sounds.add_noise(speech, sounds.NOISES[noise](rng, 16000), 10.0)
    assert np.isfinite(mixed).all()
    assert 10 * np.log10(np.mean(speech ** 2) / np.mean((mixed - speech) ** 2)) == pytest.approx(10.0, abs=0.01)


def test_fast_lengths_have_no_prime_factor_above_five():
    smooth = sorted(2**a * 3**b * 5**c for a in range(15) for b in range(10) for c in range(7))
    for samples in (1, 2, 7, 11, 121, 1013, 1025, 15991, 16001):
        assert sounds.fast_length(samples) == next(size for size in smooth if size >= samples)


def test_a_room_keeps_the_direct_sound_and_resampling_the_tone():
    click = np.zeros(8000)
    click[100] = 1.0
    wet = sounds.room(np.random.default_rng(0), click, 0.3, 6.0)
    assert np.argmax(np.abs(wet)) == 100 and np.sum(wet[101:] ** 2) == pytest.approx(10 ** -0.6, rel=0.05)
    time = np.arange(22050) / 22050
    tone = sounds.resample(np.sin(2 * np.pi * 440 * time) * np.hanning(22050), 22050, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * np.interp(np.arange(16000) / 16000, time, np.hanning(22050))
    assert len(tone) == 16000 and np.abs(tone - expected).max() < 1e-3
