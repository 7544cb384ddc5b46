"""ARPA files: all that a file says comes back, or the line that cannot be believed is named."""

import codecs
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxkit.search.arpa import read_arpa, write_arpa
from voxkit.search.ngram import NgramModel

FILE = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.5
-0.6\tA\t-0.25
-0.9\t</s>

\\2-grams:
-0.3\t<s> A
-0.2\tA </s>

\\end\\
"""
CONTENT = [{("<unk>",): (-1.5, 0.0), ("<s>",): (-99.0, -0.5), ("A",): (-0.6, -0.25), ("</s>",): (-0.9, 0.0)},
           {("<s>", "A"): (-0.3, 0.0), ("A", "</s>"): (-0.2, 0.0)}]


def read(tmp_path, text):
    (tmp_path / "lm.arpa").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_arpa(tmp_path / "lm.arpa")


@pytest.mark.parametrize("change", [
    lambda s: s,
    lambda s: s.replace("-0.6\tA\t-0.25", "-0.6 A\t-0.25"),  # a blank and a tab
    lambda s: s.replace("-0.6\tA\t-0.25", "-0.6\tA -0.25"),
    lambda s: s.replace("-0.6\tA\t-0.25", "-0.6  A   -0.25"),
    lambda s: s.replace("-0.3\t<s> A", "-0.3\t<s>\tA\t"),
    lambda s: s.replace("\n", " \t\n"),  # trailing blanks, of marks and empty lines too
    lambda s: s.replace("\n", "\r\n"),
    lambda s: "made by hand\n\n" + s,
    lambda s: s.replace("ngram 1=4", "ngram 1 = 4").replace("-0.9\t", "-.9e0\t"),
    lambda s: s + "\nwhat stands behind the end is none of it\n",
    lambda s: codecs.BOM_UTF8 + s.encode(),
    lambda s: codecs.BOM_UTF16_LE + s.encode("utf-16-le"),
])
def test_ways_to_write_one_model(tmp_path, change):
    assert read(tmp_path, change(FILE)) == CONTENT


@pytest.mark.parametrize("old, new, said", [
    ("-0.6\tA\t-0.25", "nan\tA\t-0.25", "line 8: 'nan' is no finite number"),
    ("-0.6\tA\t-0.25", "-0.6\tA\tNaN", "line 8: 'NaN' is no finite number"),
    ("-0.3\t<s> A", "-inf\t<s> A", "line 12: '-inf' is no finite number; a probability of zero is written -99"),
    ("-0.3\t<s> A", "-1e999\t<s> A", "line 12: '-1e999' is no finite number"),
    ("-0.3\t<s> A", "-0_3\t<s> A", "line 12: '-0_3' is no finite number"),
    ("-0.3\t<s> A", "0.3\t<s> A", "line 12: log10 probability 0.3 is above 0"),
    ("-0.6\tA\t-0.25", "0.25\tA\t-0.25", "line 8: log10 probability 0.25 is above 0"),
    ("ngram 1=4", "ngram 1=5", "4 1-grams, and its head says 5"),
    ("ngram 2=2", "ngram 2=1", "2 2-grams, and its head says 1"),
    ("-0.2\tA </s>\n", "", "1 2-grams, and its head says 2"),
    ("ngram 2=2\n", "", "line 10: \\\\2-grams: where"),
    ("ngram 1=4\nngram 2=2", "ngram 2=2\nngram 1=4", "line 2: 'ngram 2=2' where the count of 1-grams"),
    ("\\2-grams:", "\\3-grams:", "line 11: \\\\3-grams: where \\\\2-grams:"),
    ("\\2-grams:", "\\1-grams:", "line 11: \\\\1-grams: where \\\\2-grams:"),
    ("\\2-grams:\n-0.3\t<s> A\n-0.2\tA </s>\n", "", "1 sections of n-grams, and its head says 2"),
    ("\\1-grams:\n", "", "line 5: neither a count nor a section"),
    ("-0.2\tA </s>", "-0.3\t<s> A", "line 13: '<s> A' has been there before"),
    ("-0.9\t</s>", "-0.9\tA", "line 9: 'A' has been there before"),
    ("-0.3\t<s> A", "-0.3\t<s>", "line 12: an entry of 2 words"),
    ("-0.6\tA\t-0.25", "-0.6\tA\t-0.25\t7", "line 8: an entry of 1 words"),
    ("\\end\\", "", "cut off"),
    ("\\data\\", "data", "is it an ARPA file"),
    ("ngram 1=4\nngram 2=2\n", "", "line 3: a line `ngram ORDER=COUNT`"),
])
def test_what_cannot_be_believed_is_named(tmp_path, old, new, said):
    assert old in FILE
    with pytest.raises(ValueError, match="lm.arpa.*" + said.replace("(", "\\(")):
        read(tmp_path, FILE.replace(old, new))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_other_encodings_are_refused(tmp_path, encoding):
    with pytest.raises(ValueError, match="lm.arpa:8: not UTF-8"):
        read(tmp_path, FILE.replace("\tA\t", "\tÉ\t").encode(encoding))


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=" \t\n\r"), min_size=1, max_size=4)
NUMBERS = st.integers(-9_900_000, 0).map(lambda n: n / 100_000)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    """Words of any characters, U+2028 and the like among them."""
    words = data.draw(st.lists(WORDS, min_size=1, max_size=6, unique=True))
    ngrams = [{(w,): (data.draw(NUMBERS), data.draw(NUMBERS)) for w in words}]
    pairs = data.draw(st.sets(st.tuples(st.sampled_from(words), st.sampled_from(words)), max_size=5))
    ngrams.append({pair: (data.draw(NUMBERS), 0.0) for pair in sorted(pairs)})
    path = tmp_path_factory.mktemp("arpa") / data.draw(st.sampled_from(["lm.arpa", "lm.arpa.gz"]))
    write_arpa(path, ngrams)
    assert read_arpa(path) == ngrams


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_loses_an_ngram_without_a_word(tmp_path_factory, data):
    """A line that is lost, doubled or cut is an error or changes nothing."""
    lines = FILE.splitlines(keepends=True)
    n = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["lost", "doubled", "cut"]))
    if kind == "cut":
        lines[n] = lines[n][:data.draw(st.integers(0, len(lines[n]) - 1))] + "\n"
    else:
        lines[n:n + 1] = [] if kind == "lost" else [lines[n]] * 2
    path = tmp_path_factory.mktemp("arpa") / "lm.arpa"
    path.write_text("".join(lines))
    try:
        found = read_arpa(path)
    except ValueError as error:
        assert "lm.arpa" in str(error)
        return
    assert [set(x) for x in found] == [set(x) for x in CONTENT] or kind == "cut"
    assert [len(x) for x in found] == [len(x) for x in CONTENT]


def test_words_that_no_file_can_hold_are_refused(tmp_path):
    for word in ("", "a b", "a\n"):
        with pytest.raises(ValueError, match="cannot be a word of an ARPA file"):
            write_arpa(tmp_path / "lm.arpa", [{(word,): (-1.0, 0.0)}])
    assert not list(tmp_path.iterdir())


def test_packed_files_are_the_same_for_the_same_model(tmp_path):
    for name in ("a.arpa.gz", "b.arpa.gz"):
        NgramModel(CONTENT).write(tmp_path / name)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()
    (tmp_path / "half.gz").write_bytes(gzip.compress(FILE.encode())[:-9])
    with pytest.raises(ValueError, match="half.gz: not a whole gzip file"):
        read_arpa(tmp_path / "half.gz")
