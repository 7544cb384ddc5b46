"""What batches of a speech model with a language model hold besides: word times of their cuts, prompts of their epoch."""

from __future__ import annotations

import pickle

import pytest
import torch

pytest.importorskip("tokenizers")

from tests.decoders.tiny_llms import TEXTS, make_tokenizer  # noqa: E402
from voxkit.batch import Batch, Padded  # noqa: E402
from voxkit.data.llm_batches import LLMBatches  # noqa: E402
from voxkit.data.word_times import token_spans  # noqa: E402
from voxkit.text.huggingface import HuggingFaceVocabulary  # noqa: E402
from voxkit.text.llm_vocabulary import LLMVocabulary  # noqa: E402
from voxkit.text.prompt import PromptConfig  # noqa: E402


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    make_tokenizer(folder)
    return LLMVocabulary.of_texts(HuggingFaceVocabulary.load(folder), TEXTS)


def cut_of(text: str, words: list[tuple[str, float, float]] | None, start: float = 0.0, custom=None):
    from lhotse import MonoCut, SupervisionSegment
    from lhotse.supervision import AlignmentItem

    alignment = {"word": [AlignmentItem(w, start + a, b - a) for w, a, b in words]} if words is not None else None
    return MonoCut("c", start, 5.0, 0, supervisions=[SupervisionSegment("c", "r", 0.0, 5.0, text=text, alignment=alignment, custom=custom)])


@pytest.mark.parametrize("start", [0.0, 7.5])
def test_every_token_has_the_place_of_its_word_from_the_beginning_of_the_cut(vocabulary, start):
    cut = cut_of("HOLD THE BRIDGE", [("HOLD", 0.1, 0.5), ("THE", 0.5, 0.6), ("BRIDGE", 1.0, 1.75)], start)
    tokens = vocabulary.encode("HOLD THE BRIDGE")
    spans = token_spans(cut, tokens, vocabulary)
    for (_, places), (_, a, b) in zip(vocabulary.words(tokens), [("HOLD", 0.1, 0.5), ("THE", 0.5, 0.6), ("BRIDGE", 1.0, 1.75)]):
        torch.testing.assert_close(spans[places.start:places.stop], torch.tensor([[a, b]] * len(places)), atol=1e-5, rtol=0)
    assert len({tuple(row) for row in spans.tolist()}) == 3


def test_what_is_not_known_is_not_invented(vocabulary):
    tokens = vocabulary.encode("HOLD THE BRIDGE")
    for words in (None, [], [("HOLD", 0.1, 0.5), ("A", 0.5, 0.6), ("BRIDGE", 1.0, 1.75)], [("HOLD", 0.1, 0.5)]):
        assert token_spans(cut_of("HOLD THE BRIDGE", words), tokens, vocabulary).isnan().all()


def batch_of(vocabulary, texts):
    return Batch([f"u{n}" for n in range(len(texts))], tokens=Padded.of([torch.tensor(vocabulary.encode(t)) for t in texts]), texts=texts)


def test_prompts_are_drawn_anew_each_epoch_and_the_same_again(vocabulary):
    cuts = [cut_of("HOLD THE BRIDGE", None), cut_of("I NEED AMMO", None, custom={"previous_text": "WHERE ARE YOU"})]
    for n, cut in enumerate(cuts):
        cut.id = f"u{n}"
    batch = batch_of(vocabulary, ["HOLD THE BRIDGE", "I NEED AMMO"])
    complete = LLMBatches(vocabulary, PromptConfig(phrases_share=0.8, previous_share=1.0), ["RIVER", "WIZARD", "CASTLE"], seed=3)
    first = complete(batch, cuts, 0)
    again = pickle.loads(pickle.dumps(complete))(batch, cuts, 0)
    assert torch.equal(first.prompt.values, again.prompt.values) and first.spans is None
    assert any(not torch.equal(first.prompt.values[0], complete(batch, cuts, epoch).prompt.values[0]) for epoch in range(1, 5))
    said = vocabulary.base._tokenizer.decode(first.prompt.values[1, :first.prompt.lengths[1]].tolist())
    assert "Before: WHERE ARE YOU" in said


def test_without_lists_and_times_a_batch_stays_as_it_is(vocabulary):
    batch = batch_of(vocabulary, ["HOLD THE BRIDGE"])
    assert LLMBatches(vocabulary, PromptConfig())(batch, [cut_of("HOLD THE BRIDGE", None)], 0) is batch
