import codecs

import pytest

from voxkit.cli.main import main
from voxkit.text.coverage import Coverage
from voxkit.text.sentencepiece import train_characters


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_characters(["HEAL ME", "WARD NOW"], tmp_path_factory.mktemp("tokens"))


def test_what_cannot_be_spelled_is_counted_and_named(tokenizer):
    coverage = Coverage(tokenizer)
    for n in range(30):
        assert coverage.encode(f"u{n}", "HEAL ME") == tokenizer.encode("HEAL ME")
    assert coverage.check("train") is None
    coverage.encode("odd", "HEAL 5 5 É")
    said = coverage.check("train")
    assert said.startswith("train: 1 of 31 texts hold characters that the tokenizer lacks, '5' (2), 'É' (1); e.g. odd")


@pytest.mark.parametrize("texts", [["heal me"] * 9, ["HEAL ME"] * 8 + ["ward"]])
def test_another_case_is_refused(tokenizer, texts):
    coverage = Coverage(tokenizer)
    for n, text in enumerate(texts):
        coverage.encode(f"u{n}", text)
    with pytest.raises(ValueError, match="texts hold characters that the tokenizer lacks, .*e.g. u[08].* Is it the tokenizer of this text"):
        coverage.check("dev")


def lm(tmp_path, content, *more):
    (tmp_path / "text.txt").write_bytes(content)
    return main(["lm", "train", "--text", str(tmp_path / "text.txt"), "--order", "2", "--out", str(tmp_path / "lm.arpa"), *more])


TEXT = "HEAL ME\nWARD NOW\nWARD\u2028ME\n"


@pytest.mark.parametrize("content", [TEXT.encode(), codecs.BOM_UTF8 + TEXT.encode(), TEXT.replace("\n", "\r\n").encode(),
                                     codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le")])
def test_language_models_are_trained_on_text_in_any_unicode(tmp_path, capsys, content):
    assert lm(tmp_path, content) == 0 and "3 sentences" in capsys.readouterr().out
    (tmp_path / "first.arpa").write_bytes((tmp_path / "lm.arpa").read_bytes())
    assert lm(tmp_path, TEXT.encode()) == 0
    assert (tmp_path / "first.arpa").read_bytes() == (tmp_path / "lm.arpa").read_bytes()


def test_language_models_refuse_what_they_cannot_read_or_spell(tmp_path, capsys, tokenizer):
    assert lm(tmp_path, "HEAL\nCAFÉ\n".encode("cp1252")) == 2 and "text.txt:2: not UTF-8" in capsys.readouterr().err
    file = tokenizer.save(tmp_path)
    assert lm(tmp_path, b"heal me\nward now\n", "--tokenizer", str(file)) == 2
    assert "2 of 2 texts hold characters that the tokenizer lacks" in capsys.readouterr().err
    assert lm(tmp_path, b"HEAL ME\n" * 20 + b"HEAL 5\n", "--tokenizer", str(file)) == 0
    assert "1 of 21 texts hold characters that the tokenizer lacks, '5' (1); e.g. 'HEAL 5'" in capsys.readouterr().out
