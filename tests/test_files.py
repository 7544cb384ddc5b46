"""Text is decoded or refused by file and line, lines end where lines end, writes are whole."""

import csv
import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxkit.files import append_csv, decode, file_name, read_lines, read_text, sha256, split_lines, write_json, write_text, writing


@pytest.mark.parametrize("encoding, mark", [("utf-8", b""), ("utf-8-sig", b""), ("utf-16", b""), ("utf-16-be", b"\xfe\xff"),
                                            ("utf-32", b"")])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding, mark):
    (tmp_path / "t.txt").write_bytes(mark + "CAFÉ\nÜBER\n".encode(encoding))
    assert read_lines(tmp_path / "t.txt") == ["CAFÉ", "ÜBER"]


@pytest.mark.parametrize("before, line", [("A\r\nB\rC\n", 4), ("", 1), ("A\u2028B\n", 2)])
def test_another_encoding_is_refused_with_file_and_line(tmp_path, before, line):
    path = tmp_path / "t.txt"
    path.write_bytes(before.encode() + "CAFÉ".encode("cp1252"))
    with pytest.raises(ValueError, match=f"t.txt:{line}: not UTF-8 text"):
        read_text(path)


def test_half_of_a_utf16_unit_is_refused():
    with pytest.raises(ValueError, match="UTF-16-LE"):
        decode("CAFÉ".encode("utf-16")[:-1], "x")


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))), st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_come_back_as_they_were_written(lines, end):
    assert split_lines("".join(line + end for line in lines)) == lines


def test_gzip_is_unpacked_and_half_of_it_refused(tmp_path):
    packed = gzip.compress(b"ONE\nTWO\n")
    (tmp_path / "a.txt.gz").write_bytes(packed)
    assert read_lines(tmp_path / "a.txt.gz") == ["ONE", "TWO"]
    (tmp_path / "b.txt.gz").write_bytes(packed[:-9])
    with pytest.raises(ValueError, match="b.txt.gz: not a whole gzip file"):
        read_text(tmp_path / "b.txt.gz")


@pytest.mark.parametrize("mode, old, new", [("w", "old", "new"), ("wb", b"old", b"new")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, mode, old, new):
    path = tmp_path / "x"
    with writing(path, mode) as file:
        file.write(old)
    with pytest.raises(RuntimeError), writing(path, mode) as file:
        file.write(new)
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (path.read_text() if mode == "w" else path.read_bytes()) == old


def test_json_and_text_keep_their_characters(tmp_path):
    write_json(tmp_path / "a.json", {"é": 1})
    write_text(tmp_path / "b.txt", "a\r\nb\n")
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert (tmp_path / "b.txt").read_bytes() == b"a\r\nb\n"


def test_a_row_with_a_new_column_keeps_the_rows_before(tmp_path):
    path = tmp_path / "r.csv"
    append_csv(path, {"run": "a", "wer": 1.5})
    append_csv(path, {"run": "b, c", "note": "x\"y"})
    with path.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [{"run": "a", "wer": "1.5", "note": ""}, {"run": "b, c", "wer": "", "note": "x\"y"}]


def test_a_folder_has_the_hash_of_its_files(tmp_path):
    (tmp_path / "f").mkdir()
    for name, content in (("b", b"2"), ("a", b"1")):
        (tmp_path / "f" / name).write_bytes(content)
    assert sha256(tmp_path / "f") == hashlib.sha256(b"12").hexdigest()


@pytest.mark.parametrize("cell", ["two\nlines", "x\u2028y", "a\r\nb"])
def test_a_cell_keeps_its_line_breaks(tmp_path, cell):
    for row in ({"a": cell}, {"a": "second"}):
        append_csv(tmp_path / "r.csv", row)
    with (tmp_path / "r.csv").open(newline="") as stream:
        assert [row["a"] for row in csv.DictReader(stream)] == [cell, "second"]


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: raw[:12] + b"\xff\xff\xff" + raw[15:], lambda raw: b"x" + raw])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    (tmp_path / "a.gz").write_bytes(damage(gzip.compress(b"some text " * 20)))
    with pytest.raises(ValueError, match="a.gz: not a whole gzip file"):
        read_text(tmp_path / "a.gz")


IDS = ["u1", "/elsewhere/u1", "../../u2", "..", ".", "", ".hidden", "a/b-c", "a-b/c", "a%2Fb", "naïve", "語", "a b", "a\x00b", "C:\\x",
       "x" * 300, "x" * 301, "语" * 100, "\ud800", "~", "-rf", "a\nb"]


def test_ids_as_names_of_files_stay_in_their_folder(tmp_path):
    names = [file_name(id) for id in IDS]
    assert len(set(names)) == len(IDS)
    for name in names:
        (tmp_path / f"{name}.TextGrid").write_text("x", encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == len(IDS) and not any(p.name.startswith(".") for p in tmp_path.iterdir())
    assert [file_name(id) for id in ("u1", "naïve", "語", "a_b-c.1")] == ["u1", "naïve", "語", "a_b-c.1"]
