import json
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.vocabularies import fallback, letters
from voxkit.text.huggingface import HuggingFaceVocabulary
from voxkit.text.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def letter_ids(tmp_path_factory):
    return load_vocabulary(letters(tmp_path_factory.mktemp("letters"), ("<|start|>", "<|0.00|>", "<|end|>")))


@pytest.fixture(scope="module")
def with_fallback(tmp_path_factory):
    return load_vocabulary(fallback(tmp_path_factory.mktemp("fallback")))


def test_ids_0_to_3_are_letters_and_stay(letter_ids):
    ids = letter_ids.encode("BAD CAB")
    assert ids[:3] == [1, 0, 3] and letter_ids.decode(ids) == "BAD CAB"
    assert letter_ids.spoken([0, 1, 2, 3]) == [0, 1, 2, 3] and letter_ids.decode([0, 1, 2, 3]) == "ABCD"
    assert [word for word, _ in letter_ids.words(ids)] == ["BAD", "CAB"]
    assert letter_ids.blank is None and letter_ids.unk is None


def test_special_tokens_are_no_text_and_no_text_is_one(letter_ids):
    size = letter_ids.size
    assert letter_ids.specials == {size - 3, size - 2, size - 1} and (letter_ids.bos, letter_ids.eos) == (size - 3, size - 1)
    said = letter_ids.encode("HEAL")
    assert letter_ids.decode([letter_ids.bos, size - 2, *said, letter_ids.eos]) == "HEAL"
    spelled = letter_ids.encode("A<|end|>B<|0.00|>")
    assert not letter_ids.specials & set(spelled) and letter_ids.decode(spelled) == "A<|end|>B<|0.00|>"


@pytest.mark.parametrize("text, words", [
    ("HEAL ME NOW", ["HEAL", "ME", "NOW"]),
    ("naïve café", ["naïve", "café"]),
    ("我們 走。好", ["我", "們", "走。", "好"]),
    ("今天3点", ["今", "天", "3", "点"]),
    ("เที่ยว", ["เ", "ที่", "ย", "ว"]),
    ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
    ("「コーヒー」", ["「コ", "ー", "ヒ", "ー」"]),
    ("go 😀👍🏽 now", ["go", "😀👍🏽", "now"]),
    ("", []),
])
def test_words_of_many_scripts_hold_whole_characters(letter_ids, with_fallback, text, words):
    for vocabulary in (letter_ids, with_fallback):
        ids = vocabulary.encode(text)
        found = vocabulary.words(ids)
        assert vocabulary.decode(ids) == text and [word for word, _ in found] == words
        assert [vocabulary.decode(ids[r.start:r.stop]) for _, r in found] == words
        assert [i for _, r in found for i in r] == sorted({i for _, r in found for i in r})


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_any_text_comes_back_and_its_words_are_its_text(letter_ids, text):
    ids = letter_ids.encode(text)
    squeezed = " ".join(text.split())
    assert letter_ids.decode(ids) == squeezed
    assert "".join(word for word, _ in letter_ids.words(ids)).replace(" ", "") == squeezed.replace(" ", "")


def test_half_a_character_is_shown_and_kept(letter_ids):
    ids = letter_ids.encode("é")
    assert len(ids) == 2 and letter_ids.decode(ids[:1]) == "\ufffd" and letter_ids.words(ids[:1]) == [("\ufffd", range(0, 1))]
    assert letter_ids.words([*ids[:1], 0]) == [("\ufffdA", range(0, 2))]


def test_word_starts_tell_what_tokens_tell(letter_ids, with_fallback):
    assert [letter_ids.pieces[i] for i, start in enumerate(letter_ids.word_starts) if start and len(letter_ids.pieces[i]) > 1] == [
        "ĠH", "ĠHEA", "ĠHEAL"]
    assert with_fallback.word_starts[with_fallback.pieces.index("▁HE")] and not with_fallback.word_starts[with_fallback.pieces.index("HE")]
    assert not any(with_fallback.word_starts[i] for i in with_fallback.specials)


def test_save_load_pickle_and_choice_by_the_file_that_is_there(letter_ids, with_fallback, tmp_path):
    for vocabulary in (letter_ids, with_fallback):
        folder = tmp_path / vocabulary.fingerprint()
        folder.mkdir()
        file = vocabulary.save(folder)
        (folder / "tokenizer.model").write_bytes(b"of another kind")
        for other in (load_vocabulary(folder), load_vocabulary(file), pickle.loads(pickle.dumps(vocabulary))):
            assert isinstance(other, HuggingFaceVocabulary) and other.fingerprint() == vocabulary.fingerprint()
            assert all(getattr(other, name) == getattr(vocabulary, name) for name in ("bos", "eos", "unk", "specials"))
    assert with_fallback.unk == 3 and with_fallback.spoken([3]) == [3]


@pytest.mark.parametrize("content, said", [
    (b"{", "not a tokenizer"), (b"\xff\xfe\x00", "not a tokenizer"), (json.dumps({"version": "1.0"}).encode(), "not a tokenizer")])
def test_files_of_something_else_are_named(tmp_path, content, said):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        load_vocabulary(tmp_path)


def test_other_kinds_and_other_ids_are_refused(letter_ids, tmp_path):
    from tokenizers import Tokenizer, decoders, models

    made = Tokenizer(models.WordPiece({"[UNK]": 0, "heal": 1, "##er": 2}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="WordPiece"):
        load_vocabulary(tmp_path)
    for call in (letter_ids.decode, letter_ids.words):
        for id in (-1, 10_000):
            with pytest.raises(ValueError, match=f"token id {id} is outside"):
                call([id])
    assert letter_ids.sample("HEAL", 0.0, random.Random(0)) == letter_ids.encode("HEAL")
    with pytest.raises(ValueError, match="data.bpe_dropout 0.1: .* spells in one way"):
        letter_ids.sample("HEAL", 0.1, random.Random(0))
    with pytest.raises(ValueError, match="no tokenizer at"):
        load_vocabulary(tmp_path / "nothing")
