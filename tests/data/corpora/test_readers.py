"""Readers of tables, Kaldi folders and manifests: no text and no audio is lost without being named."""

from __future__ import annotations

import csv
import io
import json
import string
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxkit.data.corpora.folder import prepare_folder, read_folder
from voxkit.data.corpora.readers.cells import split_rows
from voxkit.data.manifests import load_cuts
from voxkit.data.reader import load_samples
from voxkit.data.validate import Checks

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Text as it comes: blanks of all kinds but line ends, quotes, commas, letters of several scripts
TEXT = st.text(st.one_of(st.sampled_from("ABC ,;'\"\u2028\u2029\x0b\x0c\x85\u00a0\u200b-é中"), st.sampled_from(string.ascii_letters)),
               min_size=1, max_size=20).filter(str.strip)


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """u0.wav ... u9.wav, one second each."""
    folder = tmp_path_factory.mktemp("audio")
    for n in range(10):
        soundfile.write(folder / f"u{n}.wav", np.random.default_rng(n).normal(scale=0.1, size=16000), 16000)
    return folder


def by_id(found):
    return {u.id: u for utterances in found.sets.values() for u in utterances}


def table(audio: Path, folder: Path, name: str, data: bytes):
    """What is read of a folder with the audio and one table."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in audio.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / name).write_bytes(data)
    return by_id(read_folder(folder))


@QUICK
@given(texts=st.lists(st.one_of(TEXT, st.text(st.sampled_from('AB,"\n \u2028'), min_size=1, max_size=12).filter(str.strip)), min_size=1,
                      max_size=10), end=st.sampled_from(["\n", "\r\n"]))
def test_what_a_csv_writer_wrote_is_read(audio, tmp_path, texts, end):
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end)
    writer.writerows([["audio", "text"], *([f"u{n}.wav", text] for n, text in enumerate(texts))])
    found = table(audio, tmp_path / "t", "text.csv", out.getvalue().encode())
    for n, text in enumerate(texts):
        if f"u{n}" in found and not found[f"u{n}"].problem:
            assert found[f"u{n}"].text.split() == text.split()
        else:
            assert any(u.problem for u in found.values())
    assert all(u.text.split() == texts[int(u.id[1])].split() for u in found.values() if not u.problem)


@QUICK
@given(lines=st.lists(st.text(st.sampled_from('u01.wav,"AB \u2028\t'), max_size=16), min_size=1, max_size=8))
def test_no_row_of_any_csv_is_lost(audio, tmp_path, lines):
    """Every line of whatever was written is text of a row, a continuation of one, or named."""
    data = "audio,text\n" + "\n".join(lines) + "\n"
    found = table(audio, tmp_path / "t", "text.csv", data.encode())
    rows = [line for line in lines if line.strip(" ,\t\u2028")]
    kept = "\n".join(str(u.text) for u in found.values() if not u.problem)
    for line in rows:
        text = line.partition(",")[2].strip()
        named = [u for u in found.values() if u.problem]
        if text and not named and '"' not in line:
            assert text in kept
    assert not rows or found


@pytest.mark.parametrize("row, reason", [
    ("u1.wav,HEAL ME, NOW", "3 cells where there should be 2"), ('u1.wav,"HEAL ME', "a quote without its other half"),
    ('u1.wav,HEAL "ME', "a quote without its other half"), ('u1.wav,"HEAL" ME,NOW', "3 cells")])
def test_a_row_that_cannot_be_told_is_named_and_takes_no_other_along(audio, tmp_path, row, reason):
    found = table(audio, tmp_path / "t", "text.csv", f"audio,text\nu0.wav,A\n{row}\nu2.wav,B\nu3.wav,\"C, D\"\n".encode())
    kind, said = found["u1.wav"].problem
    assert kind == "unreadable row" and reason in said and "text.csv:3" in said
    assert {id: u.text for id, u in found.items() if not u.problem} == {"u0": "A", "u2": "B", "u3": "C, D"}


@pytest.mark.parametrize("name, text", [("text.csv", 'audio,text\nu1.wav,"HEAL\nME"\nu2.wav,NOW\n'),
                                        ("text.csv", 'audio;text\r\nu1.wav;"HEAL\r\nME"\r\nu2.wav;NOW\r\n')])
def test_a_quoted_line_break_is_a_blank(audio, tmp_path, name, text):
    found = table(audio, tmp_path / "t", name, text.encode())
    assert found["u1"].text.split() == ["HEAL", "ME"] and found["u2"].text == "NOW" and len(found) == 2


def test_a_line_break_in_a_tsv_is_named(audio, tmp_path):
    found = table(audio, tmp_path / "t", "text.tsv", b'audio\ttext\nu1.wav\t"HEAL\nME"\nu2.wav\tNOW "OR" NEVER\nu3.wav\t"ALL ""OF"" IT"\n')
    assert found["u1.wav"].problem[0] == "unreadable row" and found["u2"].text == 'NOW "OR" NEVER' and found["u3"].text == 'ALL "OF" IT'


def test_a_quote_that_is_never_closed_ends_at_the_next_row():
    lines = ['u0.wav,"A', "B", 'u1.wav,C"', 'u2.wav,"D, E"']
    rows = list(split_rows(lines, ",", True, lambda cells: cells[0].endswith(".wav")))
    assert [(row.line, bool(row.problem)) for row in rows] == [(1, True), (2, False), (3, True), (4, False)]
    assert rows[3].cells == ["u2.wav", "D, E"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom", "utf-32"])
@pytest.mark.parametrize("name", ["text.csv", "text.tsv", "manifest.jsonl"])
def test_encodings_that_a_file_names(audio, tmp_path, encoding, name):
    rows = [("u0.wav", "CAFÉ"), ("u1.wav", "Ĝis")]
    if name.endswith("jsonl"):
        text = "".join(json.dumps({"audio_filepath": a, "text": t}, ensure_ascii=False) + "\n" for a, t in rows)
    else:
        text = "".join("\t,"[name.endswith("csv")].join(row) + "\n" for row in [("audio", "text"), *rows])
    data = ("\ufeff" + text).encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    assert {id: u.text for id, u in table(audio, tmp_path / "t", name, data).items()} == {"u0": "CAFÉ", "u1": "Ĝis"}


@pytest.mark.parametrize("data", ["audio,text\nu0.wav,A\nu1.wav,CAFÉ\n".encode("cp1252"), b"audio,text\nu0.wav,A\nu1.wav,\xff\n"])
def test_encodings_that_it_does_not_name_are_refused_with_file_and_line(audio, tmp_path, data):
    with pytest.raises(ValueError, match=r"text\.csv:3: not UTF-8"):
        table(audio, tmp_path / "t", "text.csv", data)


def test_a_text_beside_audio_in_another_encoding_is_named(audio, tmp_path):
    for n, data in enumerate((b"PLAIN", "CAFÉ".encode("cp1252"), "ĜIS".encode("utf-16"))):
        (tmp_path / f"u{n}.wav").symlink_to(audio / f"u{n}.wav")
        (tmp_path / f"u{n}.txt").write_bytes(data)
    (tmp_path / "u7.txt").write_text("TEXT WITHOUT AUDIO")
    found = by_id(read_folder(tmp_path))
    assert (found["u0"].text, found["u2"].text) == ("PLAIN", "ĜIS") and found["u1"].problem[0] == "unreadable transcript"
    assert "u1.txt:1" in found["u1"].problem[1] and found["u7.txt"].problem[0] == "missing audio"


@pytest.mark.parametrize("names", [("a/b-c.wav", "a-b/c.wav"), ("x-y/z.wav", "x/y-z.wav", "x/y/z.wav")])
@pytest.mark.parametrize("how", ["table", "beside"])
def test_files_whose_paths_look_alike_have_ids_of_their_own(audio, tmp_path, names, how):
    for n, name in enumerate((*names, "k/l.wav")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(audio / f"u{n}.wav")
        if how == "beside":
            (tmp_path / name).with_suffix(".txt").write_text(f"WORD {name[0]}")
    if how == "table":
        (tmp_path / "text.tsv").write_text("".join(f"{name}\tWORD\n" for name in (*names, "k/l.wav")))
    report = prepare_folder(tmp_path / "data", tmp_path, dev=0, test=0, jobs=1).reports["train"]
    assert report.kept == len(names) + 1 and not report.left_out
    assert {cut.id for cut in load_cuts(tmp_path / "data/cuts_train.jsonl.gz")} == {*(n.removesuffix(".wav") for n in names), "k-l"}


def kaldi(audio: Path, folder: Path, text: str, scp: str | None = None, **files: str):
    folder.mkdir(exist_ok=True)
    (folder / "wav.scp").write_text(scp or "".join(f"u{n} {audio / f'u{n}.wav'}\n" for n in range(10)))
    for name, content in {"text": text, **files}.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return by_id(read_folder(folder))


@QUICK
@given(texts=st.lists(TEXT, min_size=1, max_size=10), end=st.sampled_from(["\n", "\r\n", "\r"]), gap=st.sampled_from([" ", "\t", "  "]))
def test_every_word_of_a_kaldi_text_is_kept(audio, tmp_path, texts, end, gap):
    """U+2028, form feeds and their like are no line ends."""
    found = kaldi(audio, tmp_path / "k", "".join(f"u{n}{gap}{text}{end}" for n, text in enumerate(texts)))
    for n, text in enumerate(texts):
        assert found[f"u{n}"].text == text.strip(" \t") and not found[f"u{n}"].problem


@QUICK
@given(lines=st.lists(st.text(st.sampled_from("u01 \tAB\u2028\r"), max_size=12), max_size=8),
       scp=st.lists(st.text(st.sampled_from("u01 ./wa\0"), max_size=12), max_size=4),
       segments=st.one_of(st.none(), st.lists(st.text(st.sampled_from("su01 .nai-"), max_size=14), max_size=5)))
def test_no_line_of_any_kaldi_folder_is_lost(audio, tmp_path, lines, scp, segments):
    files = {} if segments is None else {"segments": "\n".join(segments)}
    (tmp_path / "k").mkdir(exist_ok=True)
    for old in (tmp_path / "k").iterdir():
        old.unlink()
    found = kaldi(audio, tmp_path / "k", "\n".join(lines), "u0 u0.wav\n" + "\n".join(scp), **files)
    for line in "\n".join(lines).replace("\r", "\n").split("\n"):
        if id := line.strip(" \t").replace("\t", " ").split(" ")[0]:
            assert id in found
    for line in ["u0 u0.wav", *scp]:
        if id := line.strip(" ").split(" ")[0]:
            assert id in found or any(u.recording_id == id for u in found.values())


@pytest.mark.parametrize("files", [{"text": "u0 A\nu1 B\nu0 C\n"}, {"text": "u0 A\nu1 B\n", "utt2spk": "u0 s\nu0 t\n"},
                                   {"text": "s0 A\ns1 B\n", "segments": "s0 u3 0 1\ns1 u4 0 1\ns0 u5 0 1\n"}])
def test_an_id_twice_with_two_contents_is_named(audio, tmp_path, files):
    found = kaldi(audio, tmp_path / "k", **files)
    first, second = [found[id] for id in (("s0", "s1") if "segments" in files else ("u0", "u1"))]
    assert first.problem[0] == "duplicate id" and "lines 1 and" in first.problem[1] and not second.problem


def test_an_id_twice_with_the_same_content_is_one(audio, tmp_path):
    found = kaldi(audio, tmp_path / "k", "u0 A\nu0 A\nu1 B\n")
    assert found["u0"].text == "A" and not found["u0"].problem
    twice = f"u0 {audio / 'u0.wav'}\nu1 {audio / 'u1.wav'}\nu0 {audio / 'u2.wav'}\n"
    assert kaldi(audio, tmp_path / "k", "u0 A\nu1 B\n", twice)["u0"].problem[0] == "duplicate id"


@pytest.mark.parametrize("column, left", [("0", True), ("1", False), ("A", True), ("B", False), (None, True)])
def test_the_channel_of_segments(tmp_path, column, left):
    time = np.arange(32000) / 16000
    soundfile.write(tmp_path / "call.wav", np.stack([0.3 * np.sin(2 * np.pi * f * time) for f in (200, 500)], 1), 16000)
    segments = f"s0 call 0.25 1.25{' ' + column if column else ''}\n"
    kaldi(tmp_path, tmp_path / "k", "s0 HELLO THERE\n", f"call {tmp_path / 'call.wav'}\n", segments=segments)
    prepare_folder(tmp_path / "data", tmp_path / "k", dev=0, test=0, jobs=1)
    (cut,) = load_cuts(tmp_path / "data/cuts_train.jsonl.gz")
    peak = np.abs(np.fft.rfft(load_samples(cut))).argmax()
    assert abs(peak - (200 if left else 500)) < 2 and cut.channel == (0 if left else 1)


@pytest.mark.parametrize("column, reason", [("2", "missing channel"), ("x", "unreadable times"), ("0 1", "unreadable times")])
def test_channels_that_are_not_there(audio, tmp_path, column, reason):
    kaldi(audio, tmp_path / "k", "s0 HELLO\ns1 HELLO\n", segments=f"s0 u0 0 1 {column}\ns1 u1 0 1\n")
    report = prepare_folder(tmp_path / "data", tmp_path / "k", dev=0, test=0, jobs=1).reports["train"]
    assert report.reasons()[reason] == 1 and report.kept == 1
    assert report.reasons()["no segment"] == 8  # recordings that no segment uses


@pytest.mark.parametrize("times", ["nan 1", "0 inf", "-inf 1", "a b", "0"])
def test_times_that_are_none(audio, tmp_path, times):
    assert kaldi(audio, tmp_path / "k", "s0 HELLO\n", segments=f"s0 u0 {times}\n")["s0"].problem[0] == "unreadable times"


@pytest.mark.parametrize("field, value", [("duration", float("nan")), ("duration", "long"), ("start", float("inf")),
                                          ("recording", {"id": "r", "duration": float("nan")}), ("supervisions", [{"id": "x"}]),
                                          ("type", "Odd")])
def test_a_bad_row_of_a_manifest_is_named_and_left_out(audio, tmp_path, field, value):
    from lhotse import SupervisionSegment

    from voxkit.data.reader import file_recording

    rows = []
    for n in range(3):
        cut = file_recording(audio / f"u{n}.wav", f"u{n}").to_cut().with_id(f"u{n}")
        cut.supervisions = [SupervisionSegment(f"u{n}", f"u{n}", 0.0, 1.0, text="HOLD")]
        rows.append(cut.to_dict())
    rows[1][field] = {**rows[1][field], **value} if isinstance(value, dict) else value
    (tmp_path / "cuts_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prepare_folder(tmp_path / "data", tmp_path, dev=0, test=0, jobs=1).reports["train"]
    assert report.kept == 2 and [e["id"] for e in report.left_out] == ["u1"] and "cuts_train.jsonl:2" in report.left_out[0]["detail"]


SPECIAL, CONTROL = "special tokens in the transcript", "control characters in the transcript"


@pytest.mark.parametrize("text, reason", [("HOLD <s> ON", SPECIAL), ("<UNK>", SPECIAL), ("<|en|> HOLD", SPECIAL), ("HOLD\0ON", CONTROL),
                                          ("HOLD \x1b[1m", CONTROL), ("HOLD\tON\u2028NOW", None), ("a < b </ c", None)])
def test_what_no_transcript_should_hold(audio, tmp_path, text, reason):
    data = json.dumps({"audio_filepath": "u1.wav", "text": text}) + '\n{"audio_filepath": "u2.wav", "text": "FINE"}\n'
    table(audio, tmp_path / "t", "train.jsonl", data.encode())
    report = prepare_folder(tmp_path / "data", tmp_path / "t", dev=0, test=0, jobs=1, checks=Checks(text="none")).reports["train"]
    assert [e["reason"] for e in report.left_out] == ([reason] if reason else []) and report.kept == (1 if reason else 2)


@pytest.mark.parametrize("kind, subtype, name", [("WAV", "PCM_16", "a.wav"), ("OGG", "OPUS", "a.opus"), ("FLAC", "PCM_16", "a.flac"),
                                                 ("MP3", None, "a.mp3"), ("OGG", "VORBIS", "a.ogg")])
def test_truncated_audio_is_left_out_by_that_name(audio, tmp_path, kind, subtype, name):
    from tests.audio.test_decode import encoded

    data = encoded(kind, subtype)
    (tmp_path / name).write_bytes(data[:len(data) // 2])
    (tmp_path / f"whole{name[1:]}").write_bytes(data)
    (tmp_path / "m.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(100))
    (tmp_path / "text.tsv").write_text(f"{name}\tALL OF IT\nwhole{name[1:]}\tALL OF IT\nm.m4a\tALL OF IT\n")
    report = prepare_folder(tmp_path / "data", tmp_path, dev=0, test=0, jobs=1).reports["train"]
    assert report.kept == 1 and report.reasons() == {"truncated audio": 1, "unsupported audio": 1}
    assert any("m4a" in e["detail"] for e in report.left_out)
