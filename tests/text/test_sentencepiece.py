import pickle
import random
import re

import pytest
import sentencepiece

from voxkit.text.sentencepiece import SentencePieceVocabulary, train_bpe, train_characters
from voxkit.text.vocabulary import load_vocabulary

TEXTS = ["HEAL ME NOW", "PUSH THE LEFT LANE", "WARD AT DRAGON", "DON'T PUSH THE RIGHT LANE", "ENEMY MISSING TOP"]


def test_special_ids_and_round_trip(tmp_path):
    for tokenizer in (train_bpe(TEXTS, 60, tmp_path / "bpe"), train_characters(TEXTS, tmp_path / "char")):
        assert [getattr(tokenizer, name) for name in ("blank", "bos", "eos", "unk")] == [0, 1, 2, 3]
        assert tokenizer.specials == {0, 1, 2} and tokenizer.pieces[:4] == ["<blk>", "<s>", "</s>", "<unk>"]
        assert len(tokenizer.pieces) == len(tokenizer.word_starts) == tokenizer.size
        for text in TEXTS:
            ids = tokenizer.encode(text)
            assert min(ids) > 3 and tokenizer.decode(ids) == text
            assert tokenizer.decode([1, 0, *ids, 2, 0]) == text
            assert sum(tokenizer.word_starts[i] for i in ids) == len(text.split())
        assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""
        assert tokenizer.encode("  HEAL\tME ") == tokenizer.encode("HEAL ME")


def test_words_are_those_of_the_text(tmp_path):
    for tokenizer in (train_bpe(TEXTS, 60, tmp_path / "bpe"), train_characters(TEXTS, tmp_path / "char")):
        for text in (*TEXTS, "HEAL ZOË", "É HEALÉ", ""):
            ids = tokenizer.encode(text)
            found = tokenizer.words(ids)
            assert " ".join(word for word, _ in found) == tokenizer.decode(ids)
            assert all(tokenizer.decode(ids[r.start:r.stop]) == word for word, r in found)
        assert tokenizer.spoken([1, 3, 5, 0, 2]) == [3, 5] and tokenizer.words([1, 0, 2]) == []


def test_scripts_without_blanks_have_words_too(tmp_path):
    tokenizer = train_characters(["我們走。", "好 的"], tmp_path)
    assert [word for word, _ in tokenizer.words(tokenizer.encode("我們走。好 的"))] == ["我", "們", "走。", "好", "的"]
    assert all(start == (piece[0] in "▁我們走好的") for piece, start in zip(tokenizer.pieces[4:], tokenizer.word_starts[4:]))


def test_unknown_characters_are_unk(tmp_path):
    tokenizer = train_characters(TEXTS, tmp_path)
    assert tokenizer.unk in tokenizer.encode("HEAL ZOË")
    with pytest.raises(ValueError, match="outside this vocabulary"):
        tokenizer.decode([10_000])


def test_bpe_dropout_spells_the_same_text_in_shorter_pieces(tmp_path):
    tokenizer = train_bpe(TEXTS, 60, tmp_path)
    rng = random.Random(0)
    for text in (*TEXTS, "HEAL ZOË", ""):
        usual, letters = tokenizer.encode(text), tokenizer.sample(text, 1.0, rng)
        assert tokenizer.sample(text, 0.0, rng) == usual
        if "Ë" not in text:
            assert [tokenizer.pieces[i] for i in letters] == list("".join("\u2581" + word for word in text.split()))
        drawn = [tokenizer.sample(text, 0.3, rng) for _ in range(50)]
        assert all(tokenizer.decode(ids) == tokenizer.decode(usual) and len(usual) <= len(ids) <= len(letters) for ids in drawn)
    lengths = [sum(len(tokenizer.sample(text, dropout, rng)) for text in TEXTS for _ in range(50)) for dropout in (0.0, 0.1, 0.3, 1.0)]
    assert lengths == sorted(set(lengths))
    a, b = ([tokenizer.sample(TEXTS[3], 0.5, random.Random(seed)) for seed in range(9)] for _ in range(2))
    assert a == b and len(set(map(tuple, a))) > 3


def test_same_texts_give_the_same_file(tmp_path):
    first = train_bpe(TEXTS, 60, tmp_path / "a" / "tokenizer.model")
    second = train_bpe(TEXTS, 60, tmp_path / "b")
    assert (tmp_path / "a/tokenizer.model").read_bytes() == (tmp_path / "b/tokenizer.model").read_bytes()
    assert first.fingerprint() == second.fingerprint() != train_bpe(TEXTS, 59, tmp_path / "c").fingerprint()


def test_load_save_and_pickle(tmp_path):
    made = train_bpe(TEXTS, 60, tmp_path)
    copy = made.save(tmp_path / "copy.model")
    for other in (load_vocabulary(tmp_path), load_vocabulary(copy), SentencePieceVocabulary.load(copy), pickle.loads(pickle.dumps(made))):
        assert other.fingerprint() == made.fingerprint() and other.encode(TEXTS[0]) == made.encode(TEXTS[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.model", "tokenizer.model"]


def test_a_size_out_of_reach_names_one_that_works(tmp_path):
    with pytest.raises(ValueError, match="largest that works is") as error:
        train_bpe(TEXTS, 5000, tmp_path)
    largest = int(re.search(r"works is (\d+)", str(error.value))[1])
    assert train_bpe(TEXTS, largest, tmp_path).size == largest
    with pytest.raises(ValueError, match="smallest that works is") as error:
        train_bpe(TEXTS, 6, tmp_path)
    smallest = int(re.search(r"works is (\d+)", str(error.value))[1])
    assert train_bpe(TEXTS, smallest, tmp_path).size == smallest


def test_bad_inputs_are_named(tmp_path):
    with pytest.raises(ValueError, match="every transcript is empty"):
        train_bpe(["", "  "], 50, tmp_path)
    with pytest.raises(ValueError, match="list of transcripts"):
        train_characters("HEAL ME", tmp_path)
    with pytest.raises(ValueError, match="no tokenizer at"):
        SentencePieceVocabulary.load(tmp_path / "nothing")
    (tmp_path / "bad.model").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        SentencePieceVocabulary.load(tmp_path / "bad.model")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_prefix=str(tmp_path / "other"),
                                             vocab_size=40, model_type="bpe", minloglevel=2)
    with pytest.raises(ValueError, match="pad, bos, eos, unk"):
        SentencePieceVocabulary.load(tmp_path / "other.model")
