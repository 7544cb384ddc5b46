"""Files of references and hypotheses: every text comes back as it was, or the file and the line are named."""

import gzip
import json

import pytest

from voxkit.eval.texts import read_texts, write_texts

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

_IDS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)
_LINES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r"), max_size=30)


@hypothesis.given(st.dictionaries(_IDS, _LINES, min_size=1, max_size=6))
@hypothesis.settings(max_examples=150, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, texts):
    """Separators of Unicode (U+2028, U+0085, form feed) stay inside their text."""
    write_texts(tmp_path / "h.tsv", texts)
    ids = {id.lstrip("\ufeff") if i == 0 else id: text for i, (id, text) in enumerate(texts.items())}
    hypothesis.assume(len(ids) == len(texts) and all(id.strip() == id and id for id in ids))
    found = read_texts(tmp_path / "h.tsv").texts
    assert list(found.values()) == list(texts.values())
    lines = "".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in texts.items())
    (tmp_path / "h.jsonl").write_text(lines)
    assert read_texts(tmp_path / "h.jsonl").texts == texts


@hypothesis.given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                               lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                                   st.sampled_from(["id", "text", "words", "word", "start", "end", "supervisions", "recording", "sources",
                                                    "alignment", "duration", "custom", "type", "confidence"]), inner, max_size=6),
                               max_leaves=12))
@hypothesis.settings(max_examples=300, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_json_is_read_or_its_line_named(tmp_path, value):
    (tmp_path / "h.jsonl").write_text(json.dumps(value) + "\n")
    try:
        found = read_texts(tmp_path / "h.jsonl")
    except ValueError as error:
        assert "h.jsonl, line 1" in str(error)
    else:
        assert len(found.texts) == 1 and all(isinstance(text, str) for text in found.texts.values())


@pytest.mark.parametrize("record, message", [
    ({"id": "a", "text": None}, "record a: its 'text' is null, and must be a string"), ({"id": "a", "text": 5}, "'text' is 5"),
    ({"id": None, "text": "x"}, "needs an 'id'"), ({"id": "a", "text": "x", "words": 3}, "'words' is no list"),
    ({"id": "a", "text": "x", "words": [{"word": "x", "start": "0", "end": 1}]}, "'start' is \"0\", and must be a number"),
    ({"id": "a", "text": "x", "duration": float("nan")}, "'duration' is NaN"),
    ({"id": "a", "supervisions": []}, "0 supervisions"), ({"id": "a", "duration": "1", "supervisions": [{}]}, "'duration' is \"1\""),
    ({"id": "a", "supervisions": [{"alignment": {"word": [["x"]]}}]}, "not a cut as lhotse writes it"),
])
def test_a_bad_record_is_named_by_file_and_line(tmp_path, record, message):
    (tmp_path / "h.jsonl").write_text('{"id": "first", "text": "y"}\n' + json.dumps(record) + "\n")
    with pytest.raises(ValueError, match="h.jsonl, line 2") as error:
        read_texts(tmp_path / "h.jsonl")
    assert message in str(error.value)


@pytest.mark.parametrize("words", [[{"word": "heal"}], [{"word": "heal", "start": 0.0, "end": 0.3}, {"word": "me", "confidence": 0.4}],
                                   [{"word": "heal", "start": None, "end": None}], None])
def test_text_needs_no_times(tmp_path, words):
    (tmp_path / "h.jsonl").write_text(json.dumps({"id": "a", "text": "heal me", "words": words}) + "\n")
    found = read_texts(tmp_path / "h.jsonl")
    assert found.texts == {"a": "heal me"} and not found.words


@pytest.mark.parametrize("name, content", [("h.tsv", "a\tx\nb\tCAFÉ\n".encode("latin-1")),
                                           ("h.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": "naïf"}\n'.encode("cp1252")),
                                           ("h.jsonl.gz", gzip.compress('\n{"id": "b", "text": "ü"}'.encode("latin-1"), mtime=0))])
def test_other_encodings_are_refused_with_file_and_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}:2: not UTF-8"):
        read_texts(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_a_mark_of_byte_order_is_no_part_of_the_first_id(tmp_path, encoding, ends):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "h.tsv").write_bytes((mark + ends.join(["a\tCAFÉ", "b\tx\u2028y", ""])).encode(encoding))
    assert read_texts(tmp_path / "h.tsv").texts == {"a": "CAFÉ", "b": "x\u2028y"}


def test_half_a_surrogate_pair_becomes_the_sign_for_it(tmp_path):
    (tmp_path / "h.jsonl").write_text('{"id": "a\\ud83d", "text": "x \\udc00 y", "note\\ud800": "z"}\n')
    found = read_texts(tmp_path / "h.jsonl")
    assert found.texts == {"a\ufffd": "x \ufffd y"} and "note\ufffd" in found.custom["a\ufffd"]


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    for texts in ({"a\tb": "x"}, {"a": "x\ny"}, {"a": "x\ry"}, {"a\n": "x"}):
        with pytest.raises(ValueError, match="cannot be written as id<TAB>text"):
            write_texts(tmp_path / "h.tsv", texts)
