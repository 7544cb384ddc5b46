"""A vocabulary in which the first ids are letters, as a language model's is: nothing that is said vanishes, by any head."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.text.vocabularies import letters
from voxkit.batch import audio_batch
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.streaming import StreamingRecognizer
from voxkit.models.contract import Encoded, Listener
from voxkit.search.heads import Heads
from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import load_vocabulary

TEXT = "ABBA CAB"  # ids 0, 1 and 2, those of blank, bos and eos elsewhere


class Decoder:
    """Says the text, whatever it hears."""

    alignment_heads, silence = (), None

    def limit(self, lengths):
        return torch.full_like(lengths, 100)

    def __init__(self, tokens, bos, eos, size):
        self.tokens, self.bos, self.eos, self.size = tokens, bos, eos, size

    def init_state(self, memory, lengths):
        return Place(torch.zeros(len(memory), dtype=torch.long))

    def step(self, tokens, state):
        right = torch.tensor([[*self.tokens, self.eos, self.eos][min(place, len(self.tokens))] for place in state.place.tolist()])
        return scores(right, self.size), Place(state.place + 1)

    def score(self, memory, lengths, tokens, token_lengths):
        return torch.tensor([[-abs(len(self.tokens) - int(n)) for n in row] for row in token_lengths], dtype=torch.float)


class Place:
    def __init__(self, place):
        self.place = place

    def select(self, index):
        return Place(self.place[index])


def scores(tokens, size, sure=8.0):
    return torch.zeros(*tokens.shape, size).scatter(-1, tokens[..., None], sure).log_softmax(-1)


class Model(Listener):
    seconds_per_frame, heads = 0.04, None

    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.size = vocabulary.encode(TEXT), vocabulary.size
        blank = self.size  # of the head alone: the vocabulary has none
        frames = [x for token in self.tokens for x in (blank, token)]
        self.frames = torch.tensor([frames])
        self.heads = Heads(ctc=lambda states: scores(states[..., 0].long(), self.size + 1), blank=blank, parallel=self,
                           decoder=Decoder(self.tokens, vocabulary.bos, vocabulary.eos, self.size))

    def encode(self, batch):
        lengths = torch.tensor([self.frames.shape[1]])
        return Encoded(self.frames[..., None].float(), lengths, lengths * 0.04)

    def predict(self, states, lengths, guided=False):
        count = len(self.tokens)
        return SimpleNamespace(log_probs=scores(torch.tensor([self.tokens]), self.size), lengths=torch.tensor([count]),
                               times=torch.arange(1, count + 1)[None] * 2.0, weights=torch.full((1, 2 * count), 0.5))

    def score(self, states, lengths, tokens, token_lengths):
        return self.heads.decoder.score(states, lengths, tokens, token_lengths)


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    vocabulary = load_vocabulary(letters(tmp_path_factory.mktemp("letters"), ("<|start|>", "<|end|>")))
    assert set(vocabulary.encode(TEXT)) >= {0, 1, 2}
    return Recognizer(Model(vocabulary), vocabulary)


@pytest.mark.parametrize("method", ["greedy", "guided", "beam", "ctc_greedy", "prefix_beam", "attention", "joint", "rescoring"])
@pytest.mark.parametrize("phrases", [False, True])
def test_no_search_loses_a_letter(recognizer, method, phrases):
    context = recognizer.phrases(["CAB"]) if phrases and "context" in recognizer.method(method).takes else None
    found = recognizer.recognize(audio_batch(torch.zeros(100)), SearchOptions(method, beam=3, words=True, context=context))[0]
    assert found.text == TEXT and [w.word for w in found.words] == TEXT.split()
    assert len(found.token_confidences) == len(found.tokens) and all(math.isfinite(w.end) for w in found.words)


def test_peaks_and_ranked_texts_are_whole(recognizer):
    peaked = recognizer.recognize(audio_batch(torch.zeros(100)), SearchOptions("prefix_beam", words=True, times="peaks"))[0]
    assert [w.word for w in peaked.words] == TEXT.split()
    heard = []
    ranking = SimpleNamespace(score=lambda texts: [heard.append(text) or 0.0 for text in texts])
    recognizer.recognize(audio_batch(torch.zeros(100)), SearchOptions("prefix_beam", rescore_lm=ranking, beam=2))
    assert heard[0] == TEXT


def test_a_stream_is_whole_too(recognizer):
    options = SearchOptions("prefix_beam", words=True)
    search = recognizer.method("prefix_beam").streams(recognizer.model.heads, options)
    state = search.init(1)
    states = recognizer.encode(audio_batch(torch.zeros(100))).states
    for part in states.split(3, dim=1):
        state = search.advance(state, part, torch.tensor([part.shape[1]]))
    best = [row[0] for row in search.nbest(state)]
    heard = recognizer.hypotheses(best, [1.0], options)
    recognizer.add_peaked_words(heard, best, options)
    assert heard[0].text == TEXT and [w.word for w in heard[0].words] == TEXT.split()
    with pytest.raises(ValueError, match="does not stream"):
        StreamingRecognizer(recognizer, options)
