"""VoxLM by the commands: tokens, the four phases, decoding, alignment, silence, one recording."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("lhotse")

from tests.decoders.tiny_llms import make_llm  # noqa: E402
from tests.noise import MODEL, noise_set  # noqa: E402
from voxkit.checkpoint.runs import latest_run  # noqa: E402
from voxkit.cli.main import main  # noqa: E402
from voxkit.train.logging import read_metrics  # noqa: E402

CONFIG = """
system: voxlm
tokenizer: data/tokens
model:
  front_end: {kind: fbank, subsampling_dim: 32}
  encoder: {kind: transformer, dim: 32, heads: 2, ffn: 32, layers: 1}
  llm: {name: data/llm, lora: {rank: 2}}
  alignment: {dim: 16, kernel: 3, layers: 1}
  prompt: {instruction: write, phrases_share: 0.5, phrases: 4}
data: {max_duration: 10, num_workers: 0, train: [train], dev: [dev]}
train: {max_steps: 2, epochs: 4, log_every: 1, schedule: {warmup_steps: 1}, precision: fp32}
decode: {method: generate, validation_method: generate}
"""
PHASES = {
    "phase0": ["model.learns=[front_end,encoder,ctc]", "model.loss.ctc=1", "model.loss.transcript=0", "decode.validation_method=greedy"],
    "phase0b": ["model.learns=[llm]", "data.input=text", "data.max_tokens=40"],
    "phase1": ["data.train=[train,nonspeech]", "model.loss.text=0.5"],
    "phase2": ["model.learns=[alignment]", "model.loss.ctc=0", "model.loss.transcript=0", "model.loss.alignment=1"],
}


def words_of(text: str):
    from lhotse.supervision import AlignmentItem

    return [AlignmentItem(word, 0.1 + 0.25 * n, 0.2) for n, word in enumerate(text.split())]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    here = tmp_path_factory.mktemp("project")
    texts = ["HOLD THE BRIDGE", "I NEED AMMO"]
    for name, count in (("train", 8), ("dev", 3)):
        noise_set(here / "data", name, count, lambda i: texts[i % 2], seconds=1.2, words=lambda i: words_of(texts[i % 2]))
    make_llm(here / "data" / "llm", "qwen2", chat=True)
    (here / "conf.yaml").write_text(CONFIG)
    patch = pytest.MonkeyPatch()
    patch.chdir(here)
    cuts = ["--cuts", "data/cuts_train.jsonl.gz"]
    assert main(["tokenize", "--kind", "llm", "--llm", "data/llm", *cuts, "--out", "data/tokens"]) in (0, None)
    assert main(["prepare", "nonspeech", "--out", "data", "--minutes", "0.1", "--high", "2"]) in (0, None)
    before = None
    for phase, options in PHASES.items():
        init = ["--init", f"exp/{before}"] if before else []
        assert main(["train", "--config", "conf.yaml", "--name", phase, "--device", "cpu", *init, *options]) == 0
        before = phase
    yield here
    patch.undo()


def test_each_phase_learns_what_it_should_and_is_measured(project):
    parts = {"phase0": {"ctc"}, "phase0b": {"transcript"}, "phase1": {"ctc", "transcript", "text"}, "phase2": {"alignment"}}
    for phase, expected in parts.items():
        lines = read_metrics(latest_run("exp", phase) / "metrics.json")
        trained = [line for line in lines if line["kind"] == "train"]
        assert expected <= set(trained[-1]) and not ({"ctc", "transcript", "text", "alignment"} - expected) & set(trained[-1])
        assert any("wer" in line for line in lines if line["kind"] == "validation")


def test_a_run_that_was_broken_off_goes_on(project, capsys):
    more = ["train.max_steps=4", *PHASES["phase0b"]]
    assert main(["train", "--config", "conf.yaml", "--name", "phase0b", "--device", "cpu", "--init", "exp/phase0", *more]) == 0
    lines = [line for line in read_metrics(latest_run("exp", "phase0b") / "metrics.json") if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_decode_is_told_what_to_do_and_its_record_repeats_it(project, capsys):
    (project / "phrases.txt").write_text("BRIDGE\nAMMO\n")
    assert main(["decode", "exp/phase2", "--sets", "dev", "--methods", "greedy", "generate", "--phrases", "phrases.txt", "--instruction",
                 "listen", "--words", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "generate_phrases2" in printed and "ms off" in printed
    kept = latest_run("exp", "phase2") / "decode"
    assert main(["decode", "--again", str(kept / "dev_generate_phrases2.json"), "--device", "cpu"]) == 0
    assert json.loads((kept / "dev_generate_phrases2.json").read_text())["job"]["search"]["instruction"] == "listen"
    assert main(["decode", "exp/phase2", "--sets", "dev", "--methods", "greedy", "--instruction", "listen", "--device", "cpu"]) == 2
    assert "--instruction" in capsys.readouterr().err


def test_align_by_the_head_and_by_ctc(project, capsys):
    assert main(["align", "exp/phase2", "--method", "head", "--audio", "data/dev0.wav", "--text", "HOLD THE BRIDGE"]) == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [w["word"] for w in words] == ["HOLD", "THE", "BRIDGE"] and all(w["end"] > w["start"] for w in words)
    assert main(["align", "exp/phase1", "--method", "head", "--audio", "data/dev0.wav", "--text", "HOLD"]) == 2
    assert "has learned nothing yet" in capsys.readouterr().err
    assert main(["align", "exp/phase2", "--method", "ctc", "--audio", "data/dev0.wav", "--text", "HOLD THE BRIDGE"]) == 0


def test_transcribe_and_hallucinate(project, capsys):
    assert main(["transcribe", "exp/phase2", "data/dev0.wav", "--method", "generate", "--json"]) == 0
    assert '"audio_duration"' in capsys.readouterr().out
    assert main(["hallucinate", "exp/phase2", "--methods", "generate", "--minutes", "0.02", "--seconds", "1", "--device", "cpu"]) == 0
    assert "words/min" in capsys.readouterr().out


def test_what_does_not_fit_is_named(project, capsys):
    def says(*argv: str) -> str:
        assert main(list(argv)) == 2
        return capsys.readouterr().err

    assert "--kind llm" in says("tokenize", "--kind", "llm", "--cuts", "data/cuts_train.jsonl.gz", "--out", "data/other")
    bpe = ["tokenize", "--kind", "char", "--cuts", "data/cuts_train.jsonl.gz", "--out", "data/char"]
    assert main(bpe) in (0, None)
    assert "language model's own tokens" in says("train", "--config", "conf.yaml", "--name", "x", "tokenizer=data/char")
    (project / "other.yaml").write_text(MODEL)
    assert "data.input" in says("train", "--config", "other.yaml", "tokenizer=data/char", "data.input=text", "data.train=[train]")


def test_info_of_variants_needs_no_network(project, capsys):
    assert main(["info", "voxlm-edge"]) == 0
    printed = capsys.readouterr().out
    assert "lm" in printed and "memory: weights" in printed
    assert main(["info", "qwen-stt-2b", "model.llm.lora.rank=4"]) == 0
