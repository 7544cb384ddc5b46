"""The commands' k2 paths whole: training by its losses, graphs from ARPA files, every method. Without k2 they say what to install."""

import csv
import json

import pytest

from tests.noise import MODEL, noise_set
from voxkit.cli.main import main
from voxkit.optional import available
from voxkit.text.sentencepiece import train_characters

needs_k2 = pytest.mark.skipif(not available("k2"), reason="k2 is not installed (tools/install_k2.sh)")
without_k2 = pytest.mark.skipif(available("k2"), reason="k2 is installed")
CONFIG = MODEL + """  transducer: {decoder_dim: 16, joiner_dim: 16}
data: {max_duration: 3, num_workers: 0, train: [test], dev: []}
train: {epochs: 1, schedule: {warmup_steps: 2}, precision: fp32, log_every: 1}
"""
BY_K2 = ["model.loss.ctc_by=k2", "model.loss.transducer=0.5", "model.transducer_loss.by=k2"]
GRAPH = ["lm", "graph", "--text", "text.txt", "--tokenizer", "data/tokens", "--lm", "small.arpa", "--rescore-lm", "large.arpa"]
METHODS = ["k2_ctc", "k2_hlg", "k2_nbest", "k2_nbest_rescoring", "k2_rescoring"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """data/ with four utterances of noise, a tokenizer, word n-grams of orders 2 and 3."""
    pytest.importorskip("lhotse")
    root = tmp_path_factory.mktemp("k2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        noise_set(root / "data", "test", 4)
        train_characters(["heal me", "ward"], "data/tokens")
        train_characters(["heal me", "ward xyz"], "data/others")
        (root / "conf.yaml").write_text(CONFIG)
        (root / "text.txt").write_text("heal me\nward me\nheal heal me\n" * 5)
        for order, name in ((2, "small"), (3, "large")):
            assert main(["lm", "train", "--text", "text.txt", "--order", str(order), "--out", f"{name}.arpa"]) == 0
    return root


@pytest.fixture(scope="module")
def run(folder):
    """The folder with a run trained by k2's losses, validated too, and its graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens", "data.dev=[test]", *BY_K2]) == 0
        assert main([*GRAPH, "--out", "hlg"]) == 0
        assert main([*GRAPH[:6], "--out", "hl"]) == 0
    return folder


def decode(*more):
    return main(["decode", "exp/tiny", "--sets", "test", "--device", "cpu", *more])


@needs_k2
def test_training_logs_the_losses(run):
    (metrics,) = run.glob("exp/*_tiny/metrics.json*")
    text = metrics.read_text()
    assert '"transducer"' in text and '"ctc"' in text and "NaN" not in text


@needs_k2
def test_every_method_decodes_and_the_record_repeats_it(run, monkeypatch, capsys):
    monkeypatch.chdir(run)
    assert decode("--methods", *METHODS, "--graph", "hlg", "--words", "--formats", "ctm", "--out", "out") == 0
    for method in METHODS:
        record = json.loads((run / "out" / f"test_{method}.json").read_text())
        assert record["result"]["method"] == method
        assert "graph" not in record["inputs"] if method == "k2_ctc" else record["inputs"]["graph"]["path"].endswith("hlg")
        lines = [json.loads(line) for line in (run / "out" / f"test_{method}.jsonl").read_text().splitlines()]
        assert len(lines) == 4
        if method != "k2_ctc":
            assert all(set(line["text"].split()) <= {"heal", "me", "ward"} for line in lines)
    capsys.readouterr()
    for method in ("k2_rescoring", "k2_ctc"):
        assert main(["decode", "--again", f"out/test_{method}.json", "--device", "cpu"]) == 0
        assert "the same as recorded" in capsys.readouterr().out
    record = json.loads((run / "out" / "test_k2_hlg.json").read_text())
    record["inputs"]["graph"]["sha256"] = "0"
    (run / "out" / "changed.json").write_text(json.dumps(record))
    assert main(["decode", "--again", "out/changed.json", "--device", "cpu"]) == 2
    assert "the graph (--graph) at" in capsys.readouterr().err
    with (run / "out" / "results.csv").open() as rows:
        assert [row["method"] for row in csv.DictReader(rows)] == METHODS


@needs_k2
def test_without_a_language_model_words_of_the_text_are_found(run, monkeypatch):
    monkeypatch.chdir(run)
    assert decode("--methods", "k2_hlg", "k2_nbest", "--graph", "hl", "--out", "words") == 0
    lines = [json.loads(line) for line in (run / "words" / "test_k2_hlg.jsonl").read_text().splitlines()]
    assert all(set(line["text"].split()) <= {"heal", "me", "ward"} for line in lines)


@needs_k2
@pytest.mark.parametrize("options, message", [
    (["--methods", "k2_hlg"], "needs --graph; `voxkit lm graph` makes one"),
    (["--methods", "k2_rescoring", "--graph", "hl"], "k2_rescoring needs a graph with a larger model"),
    (["--methods", "k2_nbest_rescoring", "--graph", "hl"], "k2_nbest_rescoring needs a graph with a larger model"),
    (["--methods", "k2_hlg", "--graph", "data"], "no decoding graph there"),
    (["--methods", "k2_hlg", "--graph", "others"], "made with another tokenizer"),
])
def test_wrong_graphs_are_named(run, monkeypatch, capsys, options, message):
    monkeypatch.chdir(run)
    if "others" in options:
        assert main(["lm", "graph", "--text", "text.txt", "--tokenizer", "data/others", "--out", "others"]) == 0
    assert decode(*options, "--out", "wrong") == 2
    assert message in capsys.readouterr().err


@without_k2
@pytest.mark.parametrize("command", [
    [*GRAPH, "--out", "hlg"],
    ["train", "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens", BY_K2[0]],
    ["train", "--config", "conf.yaml", "--device", "cpu", "tokenizer=data/tokens", *BY_K2[1:]],
])
def test_without_k2_the_commands_say_what_to_install(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    assert main(command) == 2
    assert "tools/install_k2.sh" in capsys.readouterr().err
