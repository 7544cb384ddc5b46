"""Corpora by lhotse's recipes: small trees in the layouts of five of them, through the checks of every other corpus."""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.data.corpora.lhotse import find_recipe, prepare_lhotse, recipe_names
from voxkit.data.manifests import load_cuts
from voxkit.experiments import new_recipe


def noise(path: Path, seconds: float = 1.0, rate: int = 16000, seed: int = 0, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate)), rate, **how)
    return path


def aishell(root: Path) -> None:
    lines = []
    for part, speakers in (("train", 4), ("dev", 1), ("test", 1)):
        for s in range(speakers):
            for i in range(2):
                id = f"BAC009S{part[:2]}{s}W{i:04}"
                noise(root / f"data_aishell/wav/{part}/S{part[:2]}{s}/{id}.wav", seed=i)
                lines.append(f"{id} 打开 大门\n")
    noise(root / "data_aishell/wav/train/Str0/BAC009Str0W0009.wav")  # no transcript
    (root / "data_aishell/transcript").mkdir()
    (root / "data_aishell/transcript/aishell_transcript_v0.8.txt").write_text("".join(lines))


def commonvoice(root: Path) -> None:
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n"
    for part, count in (("train", 3), ("dev", 1), ("test", 1)):
        rows = ""
        for i in range(count):
            noise(root / f"pl/clips/{part}{i}.mp3", rate=32000, seed=i)
            rows += f"c{i}\t{part}{i}.mp3\t\"Dzień dobry\n".rstrip("\n") + "\t2\t0\t\t\t\t\tpl\t\n"
        (root / f"pl/{part}.tsv").write_text(header + rows)


def tedlium(root: Path) -> None:
    for part in ("train", "dev", "test"):
        for talk in ("a", "b"):
            noise(root / f"legacy/{part}/sph/{part}_{talk}.sph", 5.0, format="NIST")
            (root / f"legacy/{part}/stm").mkdir(exist_ok=True)
            (root / f"legacy/{part}/stm/{part}_{talk}.stm").write_text(
                f"{part}_{talk} 1 {part}_{talk} 0.5 2.0 <o,f0,male> hold the bridge\n"
                f"{part}_{talk} 1 {part}_{talk} 2.0 3.0 <o,f0,male> ignore_time_segment_in_scoring\n"
                f"{part}_{talk} 1 {part}_{talk} 3.0 4.5 <o,f0,male> we <unk> here\n")


def ljspeech(root: Path) -> None:
    lines = []
    for i in range(20):
        noise(root / f"wavs/LJ001-{i:04}.wav", rate=22050, seed=i)
        lines.append(f"LJ001-{i:04}|Line no. {i}|Line number {i}\n")
    (root / "metadata.csv").write_text("".join(lines))


def mls(root: Path) -> None:
    base = root / "mls_polish_opus"
    for part in ("train", "dev", "test"):
        transcripts, segments = "", ""
        for i in range(2):
            id = f"{part}{i}_10_000000"
            noise(base / part / "audio" / f"{part}{i}" / "10" / f"{id}.opus", format="OGG", subtype="OPUS")
            transcripts += f"{id}\tidź w lewo\n"
            segments += f"{id}\thttp://example.org/x.mp3\t0\t1.0\n"
        (base / part / "transcripts.txt").write_text(transcripts)
        (base / part / "segments.txt").write_text(segments)
    (base / "metainfo.txt").write_text("".join(f" {p}{i}  | M | train | 1 | a | t |\n" for p in ("train", "dev", "test") for i in range(2)))


CORPORA = {"aishell": (aishell, {"train": 8, "dev": 2, "test": 2}, "打开大门"),
           "commonvoice": (commonvoice, {"train": 3, "dev": 1, "test": 1}, '"Dzień dobry'),
           "tedlium": (tedlium, {"train": 2, "dev": 2, "test": 2}, "hold the bridge"),
           "ljspeech": (ljspeech, {"train": 16, "dev": 2, "test": 2}, None),
           "mls": (mls, {"train": 2, "dev": 2, "test": 2}, "idź w lewo")}


@pytest.mark.parametrize("name", CORPORA)
def test_trees_in_the_corpora_s_own_layouts(name, tmp_path, capsys):
    make, kept, text = CORPORA[name]
    make(tmp_path / "corpus")
    corpus, out = str(tmp_path / "corpus"), str(tmp_path / "data")
    assert main(["prepare", f"lhotse:{name}", "--corpus-dir", corpus, "--out", out, "--jobs", "1"]) == 0
    table = capsys.readouterr().out
    for split, count in kept.items():
        cuts = list(load_cuts(tmp_path / f"data/cuts_{split}.jsonl.gz"))
        assert len(cuts) == count and f"{split:<16}{count:>11}" in table
        assert all(cut.sampling_rate == 16000 and cut.load_audio().shape[0] == 1 for cut in cuts)
        assert text is None or {cut.supervisions[0].text for cut in cuts} == {text}
    if name == "tedlium":
        assert "special tokens in the transcript: 2" in table and "<unk>" in table


def test_what_lhotse_drops_is_passed_on(tmp_path, caplog):
    aishell(tmp_path / "corpus")
    with caplog.at_level(logging.WARNING, "voxkit"):
        prepare_lhotse(tmp_path / "data", "aishell", tmp_path / "corpus", jobs=1)
    assert "No transcript: BAC009Str0W0009" in caplog.text


def test_the_same_command_again_keeps_what_is_there(tmp_path):
    ljspeech(tmp_path / "corpus")
    options = {"dev": 0.2, "test": 0.0, "jobs": 1}
    prepare_lhotse(tmp_path / "data", "ljspeech", tmp_path / "corpus", **options)
    there = (tmp_path / "data/cuts_train.jsonl.gz").stat().st_mtime_ns
    prepare_lhotse(tmp_path / "data", "ljspeech", tmp_path / "corpus", **options)
    assert (tmp_path / "data/cuts_train.jsonl.gz").stat().st_mtime_ns == there
    prepare_lhotse(tmp_path / "data", "ljspeech", tmp_path / "corpus", **{**options, "seed": 3})
    assert (tmp_path / "data/cuts_train.jsonl.gz").stat().st_mtime_ns != there


def test_mistakes_are_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    def fails(*arguments: str) -> str:
        assert main(["prepare", *arguments, "--out", str(tmp_path / "data")]) == 2
        return capsys.readouterr().err

    folder = ["--corpus-dir", str(tmp_path / "empty")]
    assert "like it: aishell" in fails("lhotse:aishel", *folder)
    assert "write lhotse:NAME" in fails("lhotse", *folder).replace("Write", "write")
    assert "give --corpus-dir" in fails("lhotse:aishell") and "lhotse cannot download this one" in fails("lhotse:csj")
    assert "does not take" in fails("lhotse:aishell", *folder) and "no such folder" in fails("lhotse:aishell", "--corpus-dir", "/nowhere")
    assert "no such argument; there are: output_dir" in fails("lhotse:aishell", *folder, "--option", "language=pl")
    assert "takes the whole corpus" in fails("lhotse:ljspeech", *folder, "--parts", "train")
    assert "write KEY=VALUE" in fails("lhotse:aishell", *folder, "--option", "language")


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python's tarfile has no filters")
def test_a_download_is_unpacked_without_links_out_of_its_folder(tmp_path, monkeypatch):
    import lhotse.recipes

    ljspeech(tmp_path / "corpus")
    (tmp_path / "victim").mkdir()

    def fetch(target_dir, evil):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(tmp_path / "corpus", "LJSpeech-1.1")
            if evil:
                link = tarfile.TarInfo("LJSpeech-1.1/out")
                link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "victim")
                tar.addfile(link)
        with tarfile.open(tmp_path / "a.tar") as tar:
            tar.extractall(target_dir)
        return target_dir / "LJSpeech-1.1"

    monkeypatch.setattr(lhotse.recipes, "download_ljspeech", lambda target_dir: fetch(target_dir, True))
    with pytest.raises(tarfile.FilterError):
        prepare_lhotse(tmp_path / "data", "ljspeech", download=True, jobs=1)
    assert "extraction_filter" not in tarfile.TarFile.__dict__ or tarfile.TarFile.extraction_filter is not tarfile.data_filter
    monkeypatch.setattr(lhotse.recipes, "download_ljspeech", lambda target_dir: fetch(target_dir, False))
    assert prepare_lhotse(tmp_path / "data", "ljspeech", download=True, jobs=1).reports["train"].kept == 16


def test_every_recipe_of_lhotse_s_is_offered():
    assert len(recipe_names()) > 90 and {"aishell", "commonvoice", "gigaspeech", "tedlium", "librispeech"} <= set(recipe_names())
    assert find_recipe("Cmu-Arctic")[0].__name__ == "prepare_cmu_arctic"


def test_new_recipe_for_such_a_corpus(tmp_path, repository):
    (tmp_path / "corpus").mkdir()
    where = new_recipe.make("mine", "toy/voxformer", f"lhotse:aishell:{tmp_path / 'corpus'}", egs=tmp_path / "egs")
    text = (where / "run.sh").read_text()
    assert "corpus=lhotse:aishell" in text and f"corpus_dir={tmp_path / 'corpus'}" in text and "train_sets=train" in text
    for data, said in (("lhotse:aishel:/x", "like it: aishell"), ("lhotse:aishell", "lhotse:NAME:PATH"),
                       ("lhotse:aishell:/no", "there is no")):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            new_recipe.make("mine", "toy/voxformer", data, egs=tmp_path / "egs")
