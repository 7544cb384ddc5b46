"""The table of searches: every row is whole, names mean what a model's heads allow, and one row is all that a new search takes."""

import pytest
import torch

from voxkit.infer.recognizer import Recognizer
from voxkit.infer.words import WAYS
from voxkit.models.contract import Encoded
from voxkit.search import method as table
from voxkit.search.heads import NAMES, Heads
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.method import METHODS, Method, looks_at, method_of, methods_of, methods_that_look_at, refusal, streaming_methods
from voxkit.search.options import SearchOptions
from voxkit.search.weights import FUSED, WEIGHTS
from voxkit.text.sentencepiece import train_characters

CTC, DECODER, PARALLEL = {"ctc": len}, {"decoder": object()}, {"parallel": object()}


@pytest.mark.parametrize("row", METHODS, ids=lambda row: f"{row.name}-{'-'.join(row.needs)}")
def test_a_row_names_what_there_is(row):
    assert row.needs and set(row.needs) <= set(NAMES) and set(row.weights) <= set(WEIGHTS) and set(row.times) <= set(WAYS)
    assert set(row.takes) <= set(FUSED) and (row.why == "") == (set(row.takes) == set(FUSED))
    assert row.beam == ("beam" in row.weights) and (row.power is not None) == ("length_power" in row.weights)


@pytest.mark.parametrize("heads, names, greedy", [
    (CTC, ["greedy", "prefix_beam", "k2_ctc"], ("ctc",)),
    (CTC | DECODER, ["greedy", "prefix_beam", "attention", "joint", "rescoring", "k2_ctc"], ("ctc",)),
    (PARALLEL, ["greedy", "beam"], ("parallel",)),
    (CTC | PARALLEL, ["greedy", "guided", "beam", "ctc_greedy", "prefix_beam", "rescoring", "k2_ctc"], ("parallel",)),
])
def test_what_a_model_can_do_follows_from_its_heads(heads, names, greedy):
    heads = Heads(**heads)
    assert [name for name in methods_of(heads) if name == "k2_ctc" or not name.startswith("k2_")] == names
    assert method_of("greedy", heads).needs == greedy


def test_names_that_mean_nothing_here_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match="method 'beem' is none of greedy, .*; this model can do greedy, beam$"):
        method_of("beem", Heads(**PARALLEL))
    with pytest.raises(ValueError, match="method joint needs an attention decoder and a CTC head, and this model has none; use gre"):
        method_of("joint", Heads(**PARALLEL))
    assert refusal("greedy", SearchOptions(lm=object()), Heads(**PARALLEL)).endswith("use beam")


def test_questions_about_names_need_no_model():
    assert methods_that_look_at("coverage") == ["attention", "joint"] and set(streaming_methods()) >= {"greedy", "prefix_beam"}
    assert looks_at("rescoring", "ctc_weight") and not looks_at("greedy", "beam") and not looks_at("no such", "beam")


class Spells:
    """A model whose CTC head is of no use: the new search knows its text already."""

    seconds_per_frame, heads = 0.04, Heads(ctc=lambda states: torch.zeros(*states.shape[:2], 9).log_softmax(-1))

    def encode(self, batch):
        return Encoded(torch.zeros(1, 9, 2), torch.tensor([9]), torch.tensor([0.36]))


def test_one_row_is_all_that_a_new_search_takes(tmp_path, monkeypatch):
    vocabulary = train_characters(["heal"], tmp_path)
    said = vocabulary.encode("heal")

    def run(heard, options, vocabulary):
        return [[CtcHypothesis(said, -1.0, token_log_probs=[-0.5] * len(said))] for _ in heard.lengths]

    monkeypatch.setattr(table, "METHODS", (*METHODS, Method("oracle", run, ("ctc",), weights=("beam",))))
    recognizer = Recognizer(Spells(), vocabulary)
    found = recognizer.recognize(torch_batch(), SearchOptions("oracle", words=True, temperature=2.0))[0]
    assert "oracle" in recognizer.methods() and table.looks_at("oracle", "beam")
    assert found.text == "heal" and [w.word for w in found.words] == ["heal"]
    assert found.token_confidences[0] == pytest.approx(0.7788, abs=1e-4)


def torch_batch():
    from voxkit.batch import audio_batch

    return audio_batch(torch.zeros(5760))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("options, named", [
    ({"lm_weight": NAN}, "--lm-weight nan"), ({"length_bonus": INF}, "--length-bonus inf"), ({"ctc_weight": -INF}, "--ctc-weight -inf"),
    ({"rescore_weight": NAN}, "--rescore-weight nan"), ({"coverage": INF}, "--coverage inf"), ({"length_power": NAN}, "--length-power nan"),
    ({"length_limit": NAN}, "--length-limit nan"), ({"temperature": NAN}, "--temperature nan"), ({"temperature": 0.0}, "temperature 0")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, options, named):
    recognizer = Recognizer(Spells(), train_characters(["heal"], tmp_path))
    with pytest.raises(ValueError, match=named):
        recognizer.recognize(torch_batch(), SearchOptions("prefix_beam", **options))
    SearchOptions("prefix_beam", length_limit=INF).check()
