import json

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.data.corpora import load_cuts
from voxkit.data.corpora.folder import hold_out, prepare_folder
from voxkit.data.corpora.readers import Utterance, set_of
from voxkit.data.validate import Checks
from voxkit.infer.calibration import true_words

KEEP = {"dev": 0, "test": 0}


def speak(path, seconds=1.0, rate=16000, channels=1, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = 0.1 * np.random.default_rng(seed).standard_normal((int(seconds * rate), channels))
    soundfile.write(path, audio, rate)
    return path


@pytest.fixture
def speech(tmp_path):
    folder = tmp_path / "speech"
    for i in range(4):
        speak(folder / f"clips/a{i}.wav", seed=i)
    return folder


def texts(out, split="train"):
    return {c.id: c.supervisions[0].text for c in load_cuts(out / f"cuts_{split}.jsonl.gz")}


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name, lines", [
    ("text.tsv", ["path\tspeaker\ttext", "clips/a0.wav\tann\tHeal me, now", "clips/a1.wav\tbob\tIt's over"]),
    ("text.tsv", ["clips/a0.wav\tHeal me, now", "clips/a1.wav\tIt's over"]),
    ("validated.tsv", ["client_id\tpath\tsentence", "x\ta0.wav\tHeal me, now", "y\ta1.wav\tIt's over"]),
    ("metadata.csv", ["file_name,transcription", 'clips/a0.wav,"Heal me, now"', "clips/a1.wav,It's over"]),
    ("metadata.csv", ["a0|-|Heal me, now", "a1|-|It's over"]),
    ("metadata.csv", ["file;text", "a0;Heal me, now", "a1;It's over"]),
    ("text.txt", ["clips/a0 Heal me, now", "clips/a1 It's over"]),
    ("manifest.jsonl", [json.dumps({"audio_filepath": "clips/a0.wav", "duration": 1.0, "text": "Heal me, now"}),
                        json.dumps({"audio_filepath": "clips/a1.wav", "duration": 1.0, "text": "It's over"})]),
])
def test_tables(speech, tmp_path, name, lines):
    write(speech / name, *lines)
    preparation = prepare_folder(tmp_path / "out", speech, **KEEP)
    assert texts(tmp_path / "out") == {"clips-a0": "HEAL ME NOW", "clips-a1": "IT'S OVER"}
    assert not preparation.reports["train"].left_out


def test_tables_name_their_sets_and_the_rest_is_held_out(speech, tmp_path):
    write(speech / "train.tsv", "audio\ttext", *(f"a{i}\tgo {i}" for i in (0, 1)))
    write(speech / "validation.tsv", "audio\ttext", "a2\tstop")
    report = prepare_folder(tmp_path / "out", speech, test=0.4).reports
    assert [report[s].kept for s in ("train", "dev", "test")] == [1, 1, 1]
    assert any("held out" in note for note in report["test"].notes) and not report["dev"].notes


def test_segments_of_a_table(speech, tmp_path):
    write(speech / "text.tsv", "audio\tstart\tend\ttext", "a0\t0.0\t0.4\tgo", "a0\t0.5\t\tstop", "a1\t0\t0.x\tbad", "a1\t2\t3\tfar")
    report = prepare_folder(tmp_path / "out", speech, **KEEP).reports["train"]
    cuts = {c.id: (c.start, c.duration) for c in load_cuts(tmp_path / "out/cuts_train.jsonl.gz")}
    assert cuts == {"clips-a0-00000000": (0.0, 0.4), "clips-a0-00000500": (0.5, 0.5)}
    assert report.reasons() == {"unreadable times": 1, "outside its recording": 1}


def test_tables_that_say_their_set_in_a_longer_name(speech, tmp_path):
    for name, i in (("train_manifest", 0), ("val_manifest", 1), ("test_manifest", 2)):
        (speech / f"{name}.json").write_text(json.dumps({"audio_filepath": f"clips/a{i}.wav", "text": "go"}) + "\n")
    prepare_folder(tmp_path / "out", speech)
    assert [list(texts(tmp_path / "out", name)) for name in ("train", "dev", "test")] == [["clips-a0"], ["clips-a1"], ["clips-a2"]]


def test_other_tables_beside_those_of_the_sets(speech, tmp_path, caplog):
    for i, name in enumerate(("train", "dev", "test")):
        write(speech / f"{name}.tsv", "client_id\tpath\tsentence", f"s{i}\ta{i}.wav\tgo")
    write(speech / "clip_durations.tsv", "clip\tduration[ms]", "a0.wav\t1000")
    prepare_folder(tmp_path / "out", speech)
    assert list(texts(tmp_path / "out")) == ["clips-a0"] and "clip_durations.tsv: which columns hold" in caplog.text
    write(speech / "dev.tsv", "ding\tdong", "a1.wav\tgo")
    with pytest.raises(ValueError, match="dev.tsv: which columns"):
        prepare_folder(tmp_path / "out", speech)


def test_text_beside_audio(speech, tmp_path):
    for i in range(3):
        write(speech / f"clips/a{i}.txt", f"go to {i}")
    report = prepare_folder(tmp_path / "out", speech, **KEEP).reports["train"]
    assert texts(tmp_path / "out")["clips-a1"] == "GO TO 1" and report.reasons() == {"missing transcript": 1}


def test_columns_that_cannot_be_guessed(speech, tmp_path):
    write(speech / "text.tsv", "ding\twhat was said", "a0.wav\tgo")
    with pytest.raises(ValueError, match="--audio-column.*"):
        prepare_folder(tmp_path / "out", speech, **KEEP)
    prepare_folder(tmp_path / "out", speech, columns={"audio": "ding", "text": "what was said"}, **KEEP)
    assert texts(tmp_path / "out") == {"clips-a0": "GO"}
    with pytest.raises(ValueError, match="no column 'dong'.*ding, what was said"):
        prepare_folder(tmp_path / "out", speech, columns={"audio": "dong"}, **KEEP)
    write(speech / "text.tsv", "a0.wav\tann\tgo")
    with pytest.raises(ValueError, match="3 columns and no header"):
        prepare_folder(tmp_path / "out", speech, **KEEP)


def test_what_is_wrong_is_named_counted_and_left_out(tmp_path, capsys):
    folder = tmp_path / "speech"
    good = speak(folder / "good.wav")
    speak(folder / "eight.wav", rate=8000)
    speak(folder / "stereo.flac", rate=44100, channels=2)
    speak(folder / "short.wav", seconds=0.05)
    speak(folder / "dense.wav")
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "nothing.wav", np.zeros(0), 16000)
    (folder / "zero.wav").write_bytes(b"")
    (folder / "garbage.flac").write_bytes(b"fLaC" + bytes(200))
    flac = speak(folder / "cut.flac", seconds=3).read_bytes()
    (folder / "cut.flac").write_bytes(flac[:len(flac) // 2])
    speak(folder / "x/twin.wav")
    speak(folder / "y/twin.wav")
    names = "good eight stereo short silent nothing zero garbage cut absent twin".split()
    write(folder / "text.tsv", "audio\ttext", *(f"{n}\tgo on" for n in names), "good\tagain", "dense\t" + "word " * 20,
          "x/twin\t", "y/twin\t...")
    assert main(["prepare", "folder", "--corpus-dir", str(folder), "--out", str(tmp_path / "out"), "--dev=0", "--test=0"]) == 0
    assert set(texts(tmp_path / "out")) == {"good", "eight", "stereo"}
    report = json.loads((tmp_path / "out/validation.json").read_text())["train"]
    reasons = {entry["id"]: entry["reason"] for entry in report["left_out"]}
    assert reasons.pop("nothing") in ("empty audio", "corrupt audio")
    assert reasons.pop("cut") in ("truncated audio", "corrupt audio")
    assert reasons == {"short": "too short", "silent": "silent audio", "zero": "empty audio", "garbage": "corrupt audio",
                       "absent": "missing audio", "twin": "ambiguous audio", "good": "duplicate id",
                       "dense": "transcript too long for its audio", "x-twin": "empty transcript", "y-twin": "empty transcript"}
    assert sum(report["reasons"].values()) == len(report["left_out"]) and report["kept"] == 3
    said = capsys.readouterr().out
    assert "resampled from 8000 to 16000 Hz when read: 1" in said and "2 channels: channel 0 is taken: 1" in said
    assert "garbage" in said and "validation.json" in said
    cuts = {c.id: c for c in load_cuts(tmp_path / "out/cuts_train.jsonl.gz")}
    assert all(c.load_audio().shape == (1, 16000) for c in cuts.values())
    assert str(good) == cuts["good"].recording.sources[0].source


def test_nothing_left_is_an_error(speech, tmp_path):
    write(speech / "text.tsv", "audio\ttext", "a0\t", "b\tgo")
    with pytest.raises(ValueError, match=r"nothing is left of 'train'(.|\n)*missing audio: 1: b"):
        prepare_folder(tmp_path / "out", speech, **KEEP)
    with pytest.raises(ValueError, match="no audio"):
        (tmp_path / "empty").mkdir()
        prepare_folder(tmp_path / "out", tmp_path / "empty")
    write(speech / "text.tsv", "audio\ttext", "a0\tgo")
    with pytest.raises(ValueError, match="too few"):
        prepare_folder(tmp_path / "out", speech)
    with pytest.raises(ValueError, match="text: 'loud' is not known"):
        prepare_folder(tmp_path / "out", speech, checks=Checks(text="loud"), **KEEP)


def test_kaldi(speech, tmp_path):
    kaldi = tmp_path / "data"
    write(kaldi / "train/wav.scp", f"r0 {speech}/clips/a0.wav", "r1 speech/clips/a1.wav")
    write(kaldi / "train/segments", "u0 r0 0.0 0.5", "u1 r0 0.5 -1", "u2 r1 0.1 0.9", "u3 r7 0 1", "u4 r1 0 0.5")
    write(kaldi / "train/text", "u0 heal me", "u1 go", "u2 wait", "u3 where", "u9 lost")
    write(kaldi / "train/utt2spk", "u0 ann", "u1 ann", "u2 bob", "u3 bob")
    write(kaldi / "eval/wav.scp", f"t0 {speech}/clips/a2.wav")
    write(kaldi / "eval/text", "t0 run")
    report = prepare_folder(tmp_path / "out", kaldi, dev=0).reports
    assert texts(tmp_path / "out") == {"u0": "HEAL ME", "u1": "GO", "u2": "WAIT"} and texts(tmp_path / "out", "test") == {"t0": "RUN"}
    cuts = {c.id: c for c in load_cuts(tmp_path / "out/cuts_train.jsonl.gz")}
    assert (cuts["u1"].start, cuts["u1"].duration, cuts["u1"].supervisions[0].start) == (0.5, 0.5, 0.0)
    assert cuts["u2"].supervisions[0].speaker == "bob" and cuts["u2"].load_audio().shape == (1, 12800)
    assert {e["id"]: e["reason"] for e in report["train"].left_out} == {
        "u3": "missing audio", "u4": "missing transcript", "u9": "missing audio"}


def test_kaldi_commands_are_refused(speech, tmp_path):
    write(tmp_path / "k/wav.scp", f"r0 sox {speech}/clips/a0.wav -t wav - |")
    write(tmp_path / "k/text", "r0 go")
    with pytest.raises(ValueError, match="runs no commands"):
        prepare_folder(tmp_path / "out", tmp_path / "k")
    (tmp_path / "k/text").unlink()
    with pytest.raises(ValueError, match="no `text`"):
        prepare_folder(tmp_path / "out", tmp_path / "k")


def test_lhotse_manifests(speech, tmp_path):
    from lhotse import MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    from lhotse.supervision import AlignmentItem

    recordings = [Recording.from_file(speech / f"clips/a{i}.wav", recording_id=f"r{i}") for i in range(2)]
    segments = [SupervisionSegment(id=f"s{i}", recording_id=f"r{i}", start=0.25, duration=0.5, text="go", speaker="ann",
                                   alignment={"word": [AlignmentItem("go", 0.3, 0.2)]}) for i in range(3)]
    (tmp_path / "pairs").mkdir()
    (tmp_path / "cuts").mkdir()
    for split in ("train", "dev"):
        RecordingSet.from_recordings(recordings).to_file(tmp_path / f"pairs/my_recordings_{split}.jsonl.gz")
        SupervisionSet.from_segments(segments).to_file(tmp_path / f"pairs/my_supervisions_{split}.jsonl.gz")
    report = prepare_folder(tmp_path / "a", tmp_path / "pairs", test=0).reports
    assert report["train"].kept == report["dev"].kept == 2 and report["train"].reasons() == {"missing audio": 1}
    cut = next(iter(load_cuts(tmp_path / "a/cuts_dev.jsonl.gz")))
    assert (cut.start, cut.supervisions[0].start) == (0.25, 0.0)
    assert [(w.word, w.start, w.end) for w in true_words(cut)] == [("go", pytest.approx(0.05), pytest.approx(0.25))]

    from lhotse import CutSet
    long = MonoCut("whole", 0, 1.0, 0, recording=recordings[0], supervisions=[
        SupervisionSegment(id=f"p{i}", recording_id="r0", start=i * 0.5, duration=0.5, text="go") for i in range(2)])
    CutSet.from_cuts([long, MonoCut("bare", 0, 1.0, 0, recording=recordings[1])]).to_file(tmp_path / "cuts/cuts.jsonl.gz")
    for given in (tmp_path / "cuts", tmp_path / "cuts/cuts.jsonl.gz"):
        report = prepare_folder(tmp_path / "b", given, **KEEP).reports["train"]
        assert set(texts(tmp_path / "b")) == {"p0", "p1"} and report.reasons() == {"missing transcript": 1}
    with pytest.raises(ValueError, match="come in pairs"):
        (tmp_path / "pairs/my_supervisions_dev.jsonl.gz").unlink()
        prepare_folder(tmp_path / "c", tmp_path / "pairs")


def test_a_manifest_of_no_set_beside_others_is_asked_about(speech, tmp_path):
    from lhotse import CutSet, Recording

    cuts = CutSet.from_cuts([Recording.from_file(speech / "clips/a0.wav").to_cut()])
    (tmp_path / "manifests").mkdir()
    for name in ("cuts", "cuts_dev", "cuts_train"):
        cuts.to_file(tmp_path / f"manifests/{name}.jsonl.gz")
    with pytest.raises(ValueError, match="whose name says no set lies beside those of dev, train"):
        prepare_folder(tmp_path / "out", tmp_path / "manifests")


def test_prepared_data_can_be_prepared_again(speech, tmp_path):
    write(speech / "text.tsv", "audio\ttext", "a0\tgo", "a1\tstop")
    prepare_folder(tmp_path / "a", speech, **KEEP)
    prepare_folder(tmp_path / "b", tmp_path / "a", **KEEP)
    assert texts(tmp_path / "a") == texts(tmp_path / "b")


@pytest.mark.parametrize("stem, name", [("cuts_train", "train"), ("libri_cuts_dev-clean", "dev-clean"), ("cuts", ""), ("valid_cuts", "dev"),
                                        ("mine_cuts", ""), ("validation", "dev")])
def test_sets_of_file_names(stem, name):
    assert set_of(stem, "cuts") == name


def test_held_out_speakers_or_transcripts():
    def people(count, **kw):
        return [Utterance(f"u{i}", f"text {i % 40}", speaker=f"s{i % count}" if count else None, **kw) for i in range(200)]

    shares = {"dev": 0.1, "test": 0.1}
    sets, _ = hold_out({"": people(20)}, shares, 0)
    by = {name: {u.speaker for u in us} for name, us in sets.items()}
    assert not by["train"] & by["dev"] | by["train"] & by["test"] | by["dev"] & by["test"]
    assert [len(sets[n]) for n in ("train", "dev", "test")] == [160, 20, 20]
    for count in (0, 1, 2):
        sets, remarks = hold_out({"": people(count)}, shares, 0)
        by = {name: {u.text for u in us} for name, us in sets.items()}
        assert not by["train"] & by["dev"] | by["train"] & by["test"] | by["dev"] & by["test"]
        assert "transcripts" in remarks["dev"][0] and 10 <= len(sets["dev"]) <= 30
    assert hold_out({"": people(20)}, shares, 0) == hold_out({"": people(20)}, shares, 0)
    assert hold_out({"": people(20)}, shares, 0) != hold_out({"": people(20)}, shares, 1)


def test_nothing_is_made_twice_and_changes_are_seen(speech, tmp_path, monkeypatch):
    from voxkit.data.validate import Preparation

    write(speech / "text.tsv", "audio\ttext", "a0\tgo", "a1\tstop")
    finished = []
    finish = Preparation.finish
    monkeypatch.setattr(Preparation, "finish", lambda self, split, cuts: (finished.append(split), finish(self, split, cuts))[1])
    for expected in (1, 1):
        report = prepare_folder(tmp_path / "out", speech, **KEEP).reports["train"]
        assert len(finished) == expected and report.kept == 2
    speak(speech / "clips/a1.wav", seconds=2)
    prepare_folder(tmp_path / "out", speech, **KEEP)
    assert len(finished) == 2
    prepare_folder(tmp_path / "out", speech, checks=Checks(text="lower"), **KEEP)
    assert len(finished) == 3 and texts(tmp_path / "out")["clips-a0"] == "go"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cuts_train.jsonl.gz", "prepare.json", "validation.json"]


@pytest.mark.real
def test_game_callouts(real_corpus, tmp_path):
    report = prepare_folder(tmp_path, real_corpus / "gaming/callouts").reports
    assert sum(r.kept for r in report.values()) == 241 and min(r.kept for r in report.values()) > 15
