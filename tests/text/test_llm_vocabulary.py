"""A language model's tokens under ids of their own: everything can be spelled, what CTC tells apart comes first."""

from __future__ import annotations

import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from tests.decoders.tiny_llms import TEXTS, make_tokenizer  # noqa: E402
from tests.text.vocabularies import fallback  # noqa: E402
from voxkit.text.huggingface import HuggingFaceVocabulary  # noqa: E402
from voxkit.text.llm_vocabulary import LLMVocabulary  # noqa: E402
from voxkit.text.vocabulary import load_vocabulary  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make_tokenizer(folder)
    return HuggingFaceVocabulary.load(folder)


@pytest.fixture(scope="module")
def vocabulary(base):
    return LLMVocabulary.of_texts(base, TEXTS[:3])


def test_the_corpus_is_spelled_in_the_models_own_tokens_and_heard(base, vocabulary):
    for text in TEXTS[:3]:
        ids = vocabulary.encode(text)
        assert [vocabulary.model_ids[i] for i in ids] == base.encode(text)
        assert max(ids) < vocabulary.heard < vocabulary.size
        assert vocabulary.decode(ids) == text
        assert [(w, r) for w, r in vocabulary.words(ids)] == base.words(base.encode(text))


def test_what_must_be_pushed_down_is_there_and_not_heard(base, vocabulary):
    """Without them a trained model wrote a line break and began again."""
    for piece in ("Ċ", ".", "Ġ?", '"'):
        if piece in base.pieces:
            assert base.pieces.index(piece) in vocabulary.model_ids
    pushed = {base.pieces[id] for id in vocabulary.model_ids[2:]}
    assert {piece for piece in base.pieces if piece.strip("Ġ") in ("h", "H", "l", "o", "O")} & pushed
    lower = [id for id in base.encode("hold the left") if id not in base.byte_tokens]
    assert set(lower) <= set(vocabulary.model_ids)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_can_be_spelled(vocabulary, text):
    plain = " ".join(text.replace("\x00", "").split())
    try:
        plain.encode()
    except UnicodeEncodeError:
        return
    ids = vocabulary.encode(plain)
    assert vocabulary.decode(ids) == vocabulary.base.decode(vocabulary.base.encode(plain))
    assert not vocabulary.specials & set(ids)


def test_there_is_one_spelling_for_every_word(vocabulary):
    assert vocabulary.sample("a test", 0.0, random.Random(0)) == vocabulary.encode("a test")
    with pytest.raises(ValueError, match="data.bpe_dropout 0.1: .* set it to 0"):
        vocabulary.sample("a test", 0.1, random.Random(0))


def test_it_comes_back_from_a_folder(vocabulary, tmp_path):
    vocabulary.save(tmp_path)
    for again in (load_vocabulary(tmp_path), pickle.loads(pickle.dumps(vocabulary))):
        assert again.model_ids == vocabulary.model_ids and again.heard == vocabulary.heard
        assert again.fingerprint() == vocabulary.fingerprint()
    assert LLMVocabulary.of_texts(vocabulary.base, TEXTS).fingerprint() != vocabulary.fingerprint()


def test_another_tokenizer_beside_the_list_is_refused(vocabulary, tmp_path):
    vocabulary.save(tmp_path)
    make_tokenizer(tmp_path, size=300)
    with pytest.raises(ValueError, match="another tokenizer.json"):
        load_vocabulary(tmp_path)
    (tmp_path / "candidates.json").write_text('{"ids": 3}')
    with pytest.raises(ValueError, match="no list of candidates"):
        load_vocabulary(tmp_path)


def test_the_whole_vocabulary_has_every_token_once(base):
    whole = LLMVocabulary.whole(base)
    assert sorted(whole.model_ids[2:]) == [id for id in range(base.size) if id not in base.specials]
    assert whole.heard == whole.size and len(set(whole.pieces)) == whole.size


def test_sentencepiece_with_byte_fallback_works_as_well(tmp_path):
    folder = fallback(tmp_path)
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="eos_token"):
        LLMVocabulary.of_texts(HuggingFaceVocabulary.load(folder), ["HEAL"])
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}')
    base = HuggingFaceVocabulary.load(folder)
    assert base.unk not in LLMVocabulary.whole(base).model_ids[2:]
    vocabulary = LLMVocabulary.of_texts(base, ["HEAL ME"])
    for text in ("HEAL ME NOW", "नमस्ते 世界 é"):
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_lists_that_cannot_be_are_refused(base):
    some = list(base.byte_tokens)
    for wrong, named in ((some[1:], "bytes are missing"), ([*some, some[0]], "twice"), ([*some, base.eos], "special")):
        with pytest.raises(ValueError, match=named):
            LLMVocabulary(base, wrong)
    with pytest.raises(ValueError, match="outside this vocabulary"):
        LLMVocabulary(base, some).decode([10_000])
