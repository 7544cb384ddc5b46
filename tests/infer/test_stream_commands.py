"""`voxkit transcribe --stream` and `voxkit decode --stream`, and the equal offline pass of `--chunk-ms`. The model is untrained: words are
noise."""

import json

import pytest

from voxkit.cli.main import main
from voxkit.eval.delay import said_at, word_delays
from voxkit.experiments.measures import delay_columns
from voxkit.hypothesis import Word


@pytest.fixture(scope="module")
def causal(run):
    """A run exp/causal beside exp/tiny, with a CTC head half-way up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run)
        assert main(["train", "--config", "conf.yaml", "--name", "causal", "--device", "cpu", "tokenizer=data/tokens",
                     "model.encoder.causal=true", "model.encoder.chunk_size=[8,-1]", "model.encoder.left_context=[16,-1]",
                     "model.intermediate_ctc.after=[1]", "model.loss.intermediate=0.3"]) == 0


@pytest.fixture
def here(run, causal, monkeypatch):
    monkeypatch.chdir(run)
    return run


STREAM = ["transcribe", "exp/causal", "data/test0.wav", "--stream", "--chunk-ms", "160", "--method", "prefix_beam", "--phrases", "loud.txt"]


def test_transcribe_prints_every_change_and_the_final_text(here, capsys):
    (here / "loud.txt").write_text("ward\t30\n")
    offline = [a for a in STREAM if a != "--stream"]
    assert main(offline) == 0
    text = capsys.readouterr().out.rstrip("\n").split("\t")[1]
    assert "ward" in text
    assert main(STREAM) == 0
    *changes, last = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert last == ["data/test0.wav", text] and changes
    times, texts = [float(t) for t, _ in changes], [t for _, t in changes]
    assert times == sorted(times) and 0.2 < times[0] < 0.75 and all(a != b for a, b in zip(texts, texts[1:]))


def test_transcribe_streams_as_json_and_as_captions(here, capsys):
    (here / "loud.txt").write_text("ward\t30\n")
    assert main([*STREAM, "--json"]) == 0
    *changes, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert last["final"] and last["time"] == last["audio_duration"] == 0.75 and not any(c["final"] for c in changes) and changes
    assert all(c["time"] == c["audio_duration"] for c in changes)
    for line in (*changes, last):
        assert [w["word"] for w in line["words"]] == line["text"].split()
    assert main([*STREAM, "--format", "ctm"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[4] for line in printed.out.splitlines()] == last["text"].split()
    assert [line.split("\t")[1] for line in printed.err.splitlines() if "\t" in line] == [c["text"] for c in changes]


def test_decode_streams_and_the_chunked_pass_is_equal(here, capsys):
    """Both have records of their own, which repeat them."""
    (here / "loud.txt").write_text("ward\t30\n")
    decode = ["decode", "exp/causal", "--sets", "test", "--device", "cpu", "--beam", "3", "--methods", "greedy", "prefix_beam", "--phrases",
              "loud.txt", "--lm", "lm.arpa", "--out", "streamed", "--chunk-ms", "160", "--left-ms", "160"]
    assert main([*decode, "--stream", "--words"]) == 0
    printed = capsys.readouterr().out
    assert "RTF" in printed and "prefix_beam_lm0.3_phrases1_stream160left160" in printed
    assert main([*decode, "--words", "--times", "peaks"]) == 0
    for label in ("greedy_phrases1", "prefix_beam_lm0.3_phrases1"):
        lines = [[json.loads(line) for line in (here / "streamed" / f"test_{label}_{way}160left160.jsonl").read_text().splitlines()]
                 for way in ("stream", "chunk")]
        streamed, offline = ({line["id"]: (line["text"], [(w["word"], w["start"], w["end"]) for w in line["words"]]) for line in part}
                             for part in lines)
        assert streamed == offline and all("ward" in text for text, _ in streamed.values()) and len(streamed) == 4
    record = json.loads((here / "streamed" / "test_greedy_phrases1_stream160left160.json").read_text())
    job = record["job"]
    assert (job["stream"], job["chunk_ms"], job["left_ms"], job["search"]["times"]) == (True, 160, 160, None)
    capsys.readouterr()
    assert main(["decode", "--again", "streamed/test_greedy_phrases1_stream160left160.json", "--device", "cpu"]) == 0
    assert "the same as recorded" in capsys.readouterr().out
    assert (here / "streamed" / "again" / "test_greedy_phrases1_stream160left160.tsv").is_file()


def test_the_whole_utterance_as_one_chunk(here, capsys):
    assert main(["decode", "exp/causal", "--sets", "test", "--device", "cpu", "--chunk-ms", "-1", "--out", "whole"]) == 0
    assert "greedy_whole" in capsys.readouterr().out


@pytest.mark.parametrize("command, options, message", [
    ("transcribe", ["--stream", "--method", "joint"],
     "method joint does not stream, since it takes the whole utterance; greedy, prefix_beam"),
    ("transcribe", ["--stream", "--rescore-lm", "some/model"], "a second language model (--rescore-lm) ranks whole hypotheses"),
    ("transcribe", ["--stream", "--chunk-ms", "300"], "--chunk-ms 300: a chunk of this model is a multiple of 40 ms; use 280 or 320"),
    ("transcribe", ["--stream", "--left-ms", "200"], "--left-ms 200: the left context is whole chunks of 160 ms; use 160 or 320"),
    ("transcribe", ["--stream", "--times", "alignment"], "--times alignment takes the whole utterance"),
    ("transcribe", ["--left-ms", "320"], "--left-ms is what is seen before a chunk: give --chunk-ms too"),
    ("decode", ["--stream", "--methods", "greedy", "attention"], "method attention does not stream"),
    ("decode", ["--stream", "--latency", "2"], "--latency measures whole utterances"),
])
def test_what_does_not_stream_is_refused(here, capsys, command, options, message):
    what = ["data/test0.wav"] if command == "transcribe" else ["--sets", "test", "--device", "cpu"]
    assert main([command, "exp/causal", *what, *options]) == 2
    assert message in capsys.readouterr().err


def test_other_models_and_other_inputs_are_refused(here, capsys):
    for options in (["--stream"], ["--chunk-ms", "320"]):
        assert main(["transcribe", "exp/tiny", "data/test0.wav", *options]) == 2
        assert "not causal" in capsys.readouterr().err
    assert main(["transcribe", "exp/causal", "data/test0.npy", "--stream"]) == 1
    assert "data/test0.npy holds features, and --stream takes audio" in capsys.readouterr().err


CHANGES = [(0.5, "heal"), (0.8, "heel me"), (1.1, "heal me now"), (1.4, "heal me"), (1.7, "heal me now")]


def test_when_words_were_said_for_good():
    assert said_at(CHANGES) == [1.1, 1.1, 1.7] and said_at([]) == [] and said_at([(1.0, "")]) == []
    true = [Word("heal", 0.1, 0.4, 1.0), Word("you", 0.5, 0.7, 1.0), Word("now", 1.0, 1.5, 1.0)]
    assert word_delays(true, CHANGES) == pytest.approx([0.7, 0.2]) and word_delays(true, []) == []


def test_delays_are_a_column_where_word_times_are_known():
    from types import SimpleNamespace

    words = [SimpleNamespace(symbol=w, start=s, end=e) for w, s, e in (("heal", 0.1, 0.4), ("now", 1.0, 1.5))]
    known, unknown = (SimpleNamespace(id="a", start=0.0, supervisions=[SimpleNamespace(alignment=a)]) for a in ({"word": words}, None))
    assert delay_columns([known], {"a": CHANGES}) == {"said ms": "450", "said 95 % ms": "700"}
    assert delay_columns([known], {}) == {} == delay_columns([unknown], {"a": CHANGES})
