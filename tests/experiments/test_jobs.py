"""Jobs are plain values: they go through JSON and back, run from Python as from the command line, and a record is one with its result."""

import dataclasses
import json

import pytest

pytest.importorskip("lhotse")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

from voxkit.cli.main import main  # noqa: E402
from voxkit.experiments.align import AlignJob  # noqa: E402
from voxkit.experiments.decode import DecodeJob, Fitted, decode, decode_again  # noqa: E402
from voxkit.experiments.evaluate import ScoreJob, evaluate  # noqa: E402
from voxkit.experiments.hallucinate import HallucinateJob  # noqa: E402
from voxkit.experiments.records import Record, as_json, differences, from_json, read_record, stamp  # noqa: E402
from voxkit.experiments.settings import SearchSettings  # noqa: E402
from voxkit.experiments.transcribe import TranscribeJob, transcriber  # noqa: E402
from voxkit.experiments.tune import TuneJob, tune, tune_again  # noqa: E402

_WORDS = st.text(max_size=8)
_FLOATS = st.floats(allow_nan=False)
_SEARCHES = st.builds(SearchSettings, st.dictionaries(st.sampled_from(["beam", "lm_weight", "length_limit"]), _FLOATS), st.none() | _WORDS,
                      phrases=st.dictionaries(_WORDS, st.none() | _FLOATS, max_size=3), boost=st.none() | _FLOATS)
_TUPLES = st.lists(_WORDS, max_size=3).map(tuple)
_JOBS = (st.builds(DecodeJob, _WORDS, _TUPLES, _TUPLES, _SEARCHES, fitted=st.none() | st.builds(
            Fitted, st.none() | _FLOATS, st.none() | st.just({"start": {"x": 0.5}, "end": {}})), overrides=_TUPLES)
         | st.builds(TuneJob, _WORDS, _WORDS, _TUPLES, _SEARCHES, st.dictionaries(st.just("boosts"), st.lists(_FLOATS).map(tuple)))
         | st.builds(HallucinateJob, _WORDS, _TUPLES, _FLOATS) | st.builds(ScoreJob, _WORDS, _WORDS, per=_TUPLES)
         | st.builds(TranscribeJob, _WORDS, search=_SEARCHES) | st.builds(AlignJob, _WORDS, audio=_TUPLES))


@hypothesis.given(_JOBS)
@hypothesis.settings(max_examples=200, deadline=None)
def test_a_job_goes_through_json_and_back(job):
    back = from_json(type(job), json.loads(json.dumps(as_json(job))))
    assert as_json(back) == as_json(job) and type(back) is type(job)
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        if not dataclasses.is_dataclass(value) and not isinstance(value, dict):
            assert getattr(back, field.name) == value


def test_a_job_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a DecodeJob has no beams: the record is of another version"):
        from_json(DecodeJob, {"checkpoint": "x", "sets": [], "beams": 3})
    with pytest.raises(ValueError, match="weights: 'beams' is none of beam, ctc_weight"):
        SearchSettings({"beams": 3})
    with pytest.raises(ValueError, match="values: 'lm_weight' is none of ctc_weights"):
        TuneJob("x", "dev", ("joint",), values={"lm_weight": (1.0,)}).check()
    with pytest.raises(ValueError, match="give the sets"):
        DecodeJob("x", ()).check()
    with pytest.raises(ValueError, match="--method wave: none of auto, ctc"):
        AlignJob("x", "wave").check()


def test_decoding_from_python_and_from_the_command_line_are_one(here, capsys):
    settings = SearchSettings({"beam": 2, "lm_weight": 0.5}, "lm.arpa", phrases={"ward": None, "heal me": 4.0})
    said = []
    job = DecodeJob("exp/tiny", ("test",), ("greedy", "joint"), settings, device="cpu", out="python")
    found = decode(job, said.append)
    assert [one.row["method"] for one in found] == ["greedy_phrases2", "joint_lm0.5_phrases2"]
    assert any("method greedy takes no language model" in message for message in said) and capsys.readouterr().out == ""
    assert main(["decode", "exp/tiny", "--sets", "test", "--methods", "greedy", "joint", "--beam", "2", "--lm-weight", "0.5", "--lm",
                 "lm.arpa", "--phrases", "phrases.txt", "--device", "cpu", "--out", "typed"]) == 0
    for one in found:
        name = one.record.path.name
        python, typed = (json.loads((here / folder / name).read_text()) for folder in ("python", "typed"))
        assert python["job"] == typed["job"] and python["result"]["texts"] == typed["result"]["texts"]
        assert {key: value["sha256"] for key, value in python["inputs"].items()} == {k: v["sha256"] for k, v in typed["inputs"].items()}
    known, again, differing = decode_again(str(found[1].record.path), device="cpu")
    assert not differing and again.found.texts == found[1].found.texts and known.result["WER"] == again.row["WER"]
    assert again.record.path == here.resolve() / "python" / "again" / "test_joint_lm0.5_phrases2.json" or again.record.path.is_file()


def test_the_record_of_a_method_stands_alone(here):
    """What was tuned, fitted or configured when it was made is in its job: nothing outside decides its repetition."""
    (here / "own").mkdir()
    (here / "own" / "calibration.json").write_text(json.dumps({"methods": {"prefix_beam": {"temperature": 3.0}}}))
    found = decode(DecodeJob("exp/tiny", ("test:0.5",), ("prefix_beam",), device="cpu", out="own", overrides=("decode.beam=3",)))[0]
    job = from_json(DecodeJob, found.record.job)
    assert job.search.weights == {"beam": 3, "length_bonus": 0.0} and job.fitted.temperature == 3.0 and job.sets == ("test:0.5",)
    (here / "own" / "calibration.json").unlink()
    assert not decode_again(str(found.record.path), device="cpu")[2]


def test_tuning_from_python(here):
    job = TuneJob("exp/tiny", "test", ("prefix_beam",), SearchSettings({"beam": 2}, phrases={"ward": None}), {"boosts": (0.5, 8.0)},
                  device="cpu", out="python.json")
    found = tune(job)
    assert set(found.best["prefix_beam"]) == {"boost", "WER", "tried"} and found.utterances == 4
    assert not tune_again("python.json", device="cpu", out="python2.json")[2]
    decoded = decode(DecodeJob("exp/tiny", ("test",), ("prefix_beam",), SearchSettings(phrases={"ward": None}, tuned="python.json"),
                               device="cpu", out="by_python"))[0]
    assert decoded.record.job["search"]["phrases"] == {"ward": found.best["prefix_beam"]["boost"]}


def test_scoring_from_python(tmp_path, capsys):
    (tmp_path / "r.tsv").write_text("a\tx y z\nb\tx\n")
    (tmp_path / "h.tsv").write_text("a\tx z\nb\tx\n")
    found = evaluate(ScoreJob(str(tmp_path / "r.tsv"), str(tmp_path / "h.tsv"), against=str(tmp_path / "r.tsv"), samples=50))
    assert (found.words.errors, found.row["WER"], found.other.errors, found.record) == (1, "25.00", 0, None)
    assert set(found.tests) == {"MAPSSWE", "permutation"} and capsys.readouterr().out == ""


def test_one_utterance_has_no_interval(tmp_path, capsys):
    (tmp_path / "r.tsv").write_text("a\tx y z u\n")
    (tmp_path / "h.tsv").write_text("a\tx y z\n")
    assert main(["score", "--ref", str(tmp_path / "r.tsv"), "--hyp", str(tmp_path / "h.tsv"), "--csv", str(tmp_path / "r.csv")]) == 0
    assert "25.00  –" in capsys.readouterr().out and "25.00-25.00" not in (tmp_path / "r.csv").read_text()


def test_transcribing_from_python(here):
    assert [final for _, _, final in transcriber(TranscribeJob("exp/tiny"))("data/test0.wav")] == [True]


def test_a_bad_file_does_not_end_it(here, capsys):
    (here / "bad.wav").write_bytes(b"RIFFno audio")
    assert main(["transcribe", "exp/tiny", "bad.wav", "data/test0.wav", "nowhere.wav", "data/test1.wav"]) == 1
    printed = capsys.readouterr()
    assert [line.split("\t")[0] for line in printed.out.splitlines()] == ["data/test0.wav", "data/test1.wav"]
    assert "bad.wav" in printed.err and "nowhere.wav" in printed.err and "2 of 4 files were not transcribed" in printed.err
    assert "Traceback" not in printed.err
    assert main(["transcribe", "exp/tiny", "data/test0.wav"]) == 0


@pytest.mark.parametrize("kind, suffix", [("srt", "srt"), ("textgrid", "TextGrid"), ("vtt", "vtt"), ("ctm", "ctm")])
def test_no_id_leads_out_of_the_folder(here, tmp_path, kind, suffix):
    import lhotse

    ids = [str(tmp_path / "elsewhere" / "u1"), "../../u2", "..", "a/b"]
    cuts = [cut.with_id(id) for cut, id in zip(lhotse.load_manifest("data/cuts_test.jsonl.gz").to_eager(), ids)]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts_odd.jsonl.gz")
    before = set(tmp_path.rglob("*")) | set(here.parent.iterdir())
    out = tmp_path / "out"
    decode(DecodeJob("exp/tiny", (str(tmp_path / "cuts_odd.jsonl.gz"),), ("greedy",), formats=(kind,), device="cpu", out=str(out)))
    assert len(list(out.rglob(f"*.{suffix}"))) == (1 if kind == "ctm" else 4)
    assert {path for path in tmp_path.rglob("*") if out not in path.parents and path != out} | set(here.parent.iterdir()) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"again": 5}', '{"again": "voxkit decode --again x"}',
                                     '{"again": "", "job": {}, "inputs": {}, "made": {}, "result": 1}',
                                     '{"again": "voxkit decode", "job": [], "inputs": {}, "made": {}, "result": 1}',
                                     '{"again": "voxkit decode", "job": {}, "inputs": {"cuts": {"path": "x"}}, "made": {}, "result": 1}'])
def test_what_is_no_record_is_named(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ValueError, match="r.json: not a record of `voxkit decode`.*they are here"):
        read_record(tmp_path / "r.json", "decode", "here")


def test_an_input_is_found_where_it_was_or_beside_the_record(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lm.arpa").write_text("x")
    path = tmp_path / "run" / "r.json"
    record = Record("decode", {}, {"lm": stamp(tmp_path / "run" / "lm.arpa", path)}, {}, 1, path)
    record.write()
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = read_record(tmp_path / "moved" / "r.json", "decode", "here")
    assert moved.located("lm", "language model") == str(tmp_path / "moved" / "lm.arpa")
    (tmp_path / "moved" / "lm.arpa").write_text("y")
    with pytest.raises(ValueError, match="the language model at .*moved/lm.arpa is not that of the record"):
        moved.located("lm", "language model")
    (tmp_path / "moved" / "lm.arpa").unlink()
    with pytest.raises(ValueError, match="the cuts of this record are not at .* any more; look"):
        Record("decode", {}, {"cuts": moved.inputs["lm"]}, {}, 1, moved.path).located("cuts", "cuts", "; look")


def test_what_differs_is_named():
    assert differences({"a": 1, "b": [{"c": 2}]}, {"a": 1, "b": [{"c": 3}], "d": 4}) == ["b 1 c 2 → 3", "d None → 4"]
    assert not differences([1, {"x": "y"}], [1, {"x": "y"}])
