import gzip
import io
import tarfile

import numpy as np
import pytest
import soundfile

from voxkit.cli.main import main
from voxkit.data.corpora import librispeech, load_cuts
from voxkit.data.corpora.librispeech import _TEST_CLEAN_2, FULL, MINI, part_names, prepare_librispeech
from voxkit.files import sha256


def chapter(root, part, speaker, utterances=2):
    folder = root / part / speaker / "7"
    folder.mkdir(parents=True)
    lines = []
    for i in range(utterances):
        id = f"{speaker}-7-{i:04d}"
        soundfile.write(folder / f"{id}.flac", 0.1 * np.random.default_rng(i).standard_normal(16000), 16000)
        lines.append(f"{id} IT'S OVER {'NOW ' * i}\n")
    (folder / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "corpus/LibriSpeech"
    for part in MINI:
        for speaker in ("11", "12"):
            chapter(root, part, speaker)
    return root


def texts(out, split):
    return {c.id: c.supervisions[0].text for c in load_cuts(out / f"cuts_{split}.jsonl.gz")}


def test_a_tree(tree, tmp_path):
    for corpus_dir in (tree, tree.parent):
        out = tmp_path / corpus_dir.name
        report = prepare_librispeech(out, ["mini"], corpus_dir).reports
        assert {name: r.kept for name, r in report.items()} == dict.fromkeys(MINI, 4)
        assert texts(out, "dev-clean-2") == {f"{s}-7-000{i}": "IT'S OVER" + " NOW" * i for s in (11, 12) for i in (0, 1)}
    cut = next(iter(load_cuts(out / "cuts_train-clean-5.jsonl.gz")))
    assert cut.supervisions[0].speaker == "11" and cut.load_audio().shape == (1, 16000)


def test_bad_utterances_are_named(tree, tmp_path):
    folder = tree / "train-clean-5/11/7"
    (folder / "11-7-0000.flac").write_bytes(b"fLaC")
    with open(folder / "11-7.trans.txt", "a") as file:
        file.write("11-7-0005\n11-7-0006 WORDS\n\n")
    soundfile.write(folder / "11-7-0009.flac", np.ones(16000) / 2, 16000)
    report = prepare_librispeech(tmp_path / "out", ["train-clean-5"], tree).reports["train-clean-5"]
    assert report.kept == 3 and {e["id"]: e["reason"] for e in report.left_out} == {
        "11-7-0000": "corrupt audio", "11-7-0005": "empty transcript", "11-7-0006": "missing audio", "11-7-0009": "missing transcript"}


def test_parts_come_one_after_another(tree, tmp_path, monkeypatch):
    from voxkit.data.validate import Preparation

    prepare_librispeech(tmp_path / "out", ["train-clean-5"], tree)
    finish, made = Preparation.finish, []
    monkeypatch.setattr(Preparation, "finish", lambda self, split, cuts: (made.append(split), finish(self, split, cuts))[1])
    report = prepare_librispeech(tmp_path / "out", ["mini"], tree).reports
    assert made == ["dev-clean-2", "test-clean-2"] and set(report) == set(MINI)


def test_test_clean_2_is_cut_out_of_test_clean(tree, tmp_path):
    import shutil

    shutil.rmtree(tree / "test-clean-2")
    with pytest.raises(ValueError, match="has no test-clean-2; there are: train-clean-5, dev-clean-2"):
        prepare_librispeech(tmp_path / "out", ["mini"], tree)
    for speaker in (*_TEST_CLEAN_2, "8888"):
        chapter(tree, "test-clean", speaker, utterances=1)
    prepare_librispeech(tmp_path / "out", ["test-clean-2", "test-clean"], tree)
    assert {id.split("-")[0] for id in texts(tmp_path / "out", "test-clean-2")} == set(_TEST_CLEAN_2)
    assert len(texts(tmp_path / "out", "test-clean")) == 11


def test_names():
    assert part_names(["mini", "dev-clean", "dev-clean"]) == [*MINI, "dev-clean"] and part_names(["full"]) == list(FULL)
    with pytest.raises(ValueError, match="no part dev-clear; there are: full, mini, train-clean-100"):
        part_names(["dev-clear"])


def test_download(tree, tmp_path, monkeypatch, capsys):
    """The archives are what openslr.org would send."""
    import lhotse.recipes.librispeech as lhotse_recipe

    for speaker in _TEST_CLEAN_2:
        chapter(tree, "test-clean", speaker, utterances=1)
    asked = []

    def fetch(url, filename, **_):
        asked.append(url)
        with tarfile.open(filename, "w:gz") as tar:
            part = filename.name.removesuffix(".tar.gz")
            tar.add(tree / part, f"LibriSpeech/{part}")
        monkeypatch.setitem(librispeech.CHECKSUMS, part, f"sha256:{sha256(filename)}")

    monkeypatch.setattr(lhotse_recipe, "resumable_download", fetch)
    out = str(tmp_path / "out")
    assert main(["prepare", "librispeech", "--parts", "mini", "--download-only", "--out", out]) == 0
    assert [u.split("/resources/")[1] for u in asked] == ["31/train-clean-5.tar.gz", "31/dev-clean-2.tar.gz", "12/test-clean.tar.gz"]
    assert main(["prepare", "librispeech", "--parts", "mini", "--out", out]) == 0 and len(asked) == 3
    assert len(texts(tmp_path / "out", "dev-clean-2")) == 4
    assert '"source": "download/LibriSpeech/' in gzip.open(tmp_path / "out/cuts_dev-clean-2.jsonl.gz", "rt").read()

    monkeypatch.setattr(lhotse_recipe, "resumable_download", lambda url, filename, **_: filename.write_bytes(b"\x1f\x8b half"))
    assert main(["prepare", "librispeech", "--parts", "dev-other", "--out", out]) == 2
    assert "again continues the download" in capsys.readouterr().err
    assert main(["prepare", "librispeech", "--corpus-dir", out + "/no", "--out", out]) == 2


@pytest.mark.parametrize("kind", ["symlink out", "symlink absolute", "hard link", "another archive"])
def test_archives_that_are_not_what_they_should_be(tmp_path, monkeypatch, capsys, kind):
    import lhotse.recipes.librispeech as lhotse_recipe

    (tmp_path / "victim").write_text("mine")

    def fetch(url, filename, **_):
        with tarfile.open(filename, "w:gz") as tar:
            link = tarfile.TarInfo("LibriSpeech/dev-other/1/2/x")
            link.type = tarfile.LNKTYPE if kind == "hard link" else tarfile.SYMTYPE
            link.linkname = str(tmp_path) if kind == "symlink absolute" else "../../../../../../victim"
            tar.addfile(link)
            written = tarfile.TarInfo("LibriSpeech/dev-other/1/2/x/victim" if "symlink" in kind else "LibriSpeech/dev-other/1/2/x")
            written.size = 5
            tar.addfile(written, io.BytesIO(b"their"))
        if kind != "another archive":
            monkeypatch.setitem(librispeech.CHECKSUMS, "dev-other", f"sha256:{sha256(filename)}")

    monkeypatch.setattr(lhotse_recipe, "resumable_download", fetch)
    assert main(["prepare", "librispeech", "--parts", "dev-other", "--out", str(tmp_path / "a/b/out")]) == 2
    assert "openslr.org" in capsys.readouterr().err and (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "a/b/out/download/LibriSpeech/dev-other/.completed").exists()


@pytest.mark.real
def test_the_normalization_leaves_real_transcripts_alone(real_corpus, tmp_path):
    report = prepare_librispeech(tmp_path, ["dev-clean-2"], real_corpus / "LibriSpeech").reports["dev-clean-2"]
    assert report.kept == 681 and not report.left_out
    written = dict(line.split(" ", 1) for f in (real_corpus / "LibriSpeech/dev-clean-2").rglob("*.trans.txt") for line in open(f))
    assert texts(tmp_path, "dev-clean-2") == {id: text.strip() for id, text in written.items()}
