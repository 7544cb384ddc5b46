"""A pretrained language model over text ranks the hypotheses of a beam anew."""

import json

import pytest
import torch

pytest.importorskip("lhotse")
transformers = pytest.importorskip("transformers")

from tests.infer.test_ctc_methods import BATCH, Autoregressive, Parallel  # noqa: E402
from voxkit.cli.main import main  # noqa: E402
from voxkit.infer.pretrained_lm import PretrainedLM  # noqa: E402
from voxkit.infer.recognizer import Recognizer, SearchOptions  # noqa: E402
from voxkit.search.hypotheses import CtcHypothesis  # noqa: E402
from voxkit.search.text_ranking import best_of  # noqa: E402
from voxkit.text.sentencepiece import train_characters  # noqa: E402

pytestmark = pytest.mark.usefixtures("lm_in_float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random GPT-2 over letters, as Hugging Face keeps them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("gpt")
    letters = {c: i for i, c in enumerate("^ abcdefghijklmnopqrstuvwxyz")}
    inner = Tokenizer(models.WordLevel({**letters, "?": len(letters)}, unk_token="?"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="^").save_pretrained(path)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=len(letters) + 1, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.5)).save_pretrained(path)
    return path


def are_log_probabilities(lm, texts, found):
    for text, value in zip(texts, found):
        ids = torch.tensor([[lm.start, *lm.tokenizer(text).input_ids]])
        with torch.no_grad():
            log_probs = lm.model(ids).logits.log_softmax(-1)
        expected = sum(float(log_probs[0, i, token]) for i, token in enumerate(ids[0, 1:].tolist()))
        assert value == pytest.approx(expected, abs=1e-4)


def test_a_text_has_the_product_of_its_tokens_probabilities(folder):
    lm = PretrainedLM.load(str(folder))
    texts = ["heal me", "a", "", "push the left lane", "heal me", "heal him", "push the lane"]  # some begin alike
    found = lm.score(texts)
    are_log_probabilities(lm, texts, found)
    assert found[2] == 0 and found[0] == found[4]


def test_batches_change_nothing_and_upper_case_is_read_as_lower(folder, monkeypatch):
    texts = ["heal me", "push the left lane", "ward"]
    whole = PretrainedLM.load(str(folder)).score(texts)
    monkeypatch.setattr("voxkit.infer.pretrained_lm._LOGITS", 64)
    monkeypatch.setattr("voxkit.infer.pretrained_lm._TOKENS", 1)
    monkeypatch.setattr("voxkit.infer.pretrained_lm._PLACES", 1)
    single = PretrainedLM.load(str(folder))
    assert single.score(texts) == pytest.approx(whole, abs=1e-4)
    assert single.score(["HEAL ME"]) == [pytest.approx(whole[0], abs=1e-4)]
    assert single.score(["Heal me"])[0] != pytest.approx(whole[0], abs=1e-2)  # as it is written


class Plain(transformers.GPT2LMHeadModel):
    """Takes no positions."""

    def __init__(self, config):
        super().__init__(config)
        inner = self.transformer.forward
        self.transformer.forward = lambda *given, position_ids=None, **more: inner(*given, **more)


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_beginnings_go_through_the_model_once(folder, kind, tmp_path, monkeypatch):
    """Rotary positions and sliding windows too: of a window of 6 tokens a longer text is not put into a tree."""
    lm = PretrainedLM.load(str(folder))
    if kind == "gemma3":
        torch.manual_seed(1)
        config = transformers.Gemma3TextConfig(
            vocab_size=29, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            head_dim=8, sliding_window=6, layer_types=["sliding_attention", "full_attention"], initializer_range=0.5)
        lm = PretrainedLM(transformers.Gemma3ForCausalLM(config), lm.tokenizer, tmp_path)
    assert lm.tree
    seen = []
    forward = type(lm.model.base_model).forward

    def noted(self, *given, **more):
        seen.append(tuple((more["input_ids"] if "input_ids" in more else given[0]).shape))
        return forward(self, *given, **more)

    monkeypatch.setattr(type(lm.model.base_model), "forward", noted)
    texts = ["heal", "heat", "hea", "go"] if kind == "gemma3" else ["heal me now", "heal me not", "heal me", "heat me"]
    found = lm.score(texts)
    # what is asked: ^ h e a, and ^ g; or ^ heal me no, heat m, and nothing after the last letters
    assert seen == ([(1, 5)] if kind == "gemma3" else [(1, 14)])
    found += lm.score(["push the left lane"])
    assert seen[1:] == ([(1, 18)] if kind == "gpt2" else [(1, 19)])
    are_log_probabilities(lm, [*texts, "push the left lane"], found)


def test_a_model_that_takes_no_tree_gets_whole_texts(folder, caplog):
    whole = PretrainedLM.load(str(folder))
    config = whole.model.config
    plain = Plain(config)
    plain.load_state_dict(whole.model.state_dict())
    lm = PretrainedLM(plain, whole.tokenizer, folder)
    assert not lm.tree and "takes no tree of beginnings" in caplog.text
    texts = ["heal me", "a", "heal him", "push the lane"]
    assert lm.score(texts) == pytest.approx(whole.score(texts), abs=1e-4)


def test_a_text_longer_than_the_model_takes_is_named(folder):
    with pytest.raises(ValueError, match="a hypothesis has 66 of its tokens, and it takes 64"):
        PretrainedLM.load(str(folder)).score(["a" * 65])


def test_a_text_is_asked_for_once(folder):
    lm = PretrainedLM.load(str(folder))
    first = lm.score(["heal me", "ward"])
    lm.model = None
    assert lm.score(["ward", "heal me"]) == first[::-1]


def test_a_head_of_another_kind_is_refused(folder, monkeypatch):
    forward = transformers.GPT2LMHeadModel.forward

    def scaled(self, *args, **options):
        out = forward(self, *args, **options)
        return type(out)(logits=3 * out.logits)

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "forward", scaled)
    with pytest.raises(ValueError, match="GPT2LMHeadModel scales its logits"):
        PretrainedLM.load(str(folder))


class Likes:
    """Prefers one text."""

    def __init__(self, text):
        self.text = text

    def score(self, texts):
        return [0.0 if text == self.text else -5.0 for text in texts]


def test_its_score_counts_by_its_weight(tmp_path):
    tokenizer = train_characters(["heal me", "ward"], tmp_path / "tokens")
    row = [CtcHypothesis(tokenizer.encode("ward"), -1.0), CtcHypothesis(tokenizer.encode("heal"), -2.5)]
    for weight, text, score in ((0.2, "ward", -2.0), (0.4, "heal", -2.5)):
        best = best_of([row], tokenizer, SearchOptions("prefix_beam", rescore_lm=Likes("heal"), rescore_weight=weight))[0]
        assert tokenizer.decode(best.tokens) == text and best.score == pytest.approx(score)
    few = SearchOptions("prefix_beam", rescore_lm=Likes("heal"), rescore_weight=9.0, rescore_nbest=1)
    assert tokenizer.decode(best_of([row], tokenizer, few)[0].tokens) == "ward"
    alone = best_of([row[:1]], tokenizer, SearchOptions("attention", rescore_lm=Likes("heal"), rescore_weight=1.0), power=0.5)[0]
    assert alone.score == pytest.approx(-1.0 - 5.0 / (len(row[0].tokens) + 1) ** 0.5)  # as attention's own score is divided


@pytest.mark.parametrize("stub, method", [(Autoregressive, "prefix_beam"), (Autoregressive, "rescoring"), (Parallel, "prefix_beam"),
                                          (Parallel, "rescoring"), (Parallel, "beam")])
def test_another_of_the_beam_can_win(stub, method, tmp_path):
    tokenizer = train_characters(["heal me", "ward now"], tmp_path / "tokens")
    recognizer = Recognizer(stub(tokenizer.size, tokenizer.encode("ward")[0]), tokenizer)
    options = {"beam": 4, "ctc_weight": 0.3, "words": True}
    plain = recognizer.recognize(BATCH, SearchOptions(method, **options))[0]
    seen = []

    class Refuses(Likes):
        def score(self, texts):
            seen.extend(texts)
            return [-100.0 if text == self.text else 0.0 for text in texts]

    other = recognizer.recognize(BATCH, SearchOptions(method, **options, rescore_lm=Refuses(plain.text), rescore_weight=1.0))[0]
    assert other.text != plain.text and other.text in seen
    assert [w.word for w in other.words] == other.text.split()  # of the one that won


def test_decode_and_tune_take_it(here, folder, capsys):
    common = ["--device", "cpu", "--beam", "3", "--rescore-lm", str(folder)]
    assert main(["tune", "exp/tiny", "--set", "test", "--methods", "prefix_beam", "joint", *common, "--rescore-weights", "0.2", "2.0",
                 "--length-bonuses", "0", "--ctc-weights", "0.3", "--out", "second.json"]) == 0
    chosen = json.loads((here / "second.json").read_text())
    assert chosen["inputs"]["rescore_lm"]["path"] == str(folder) and chosen["result"]["methods"]["joint"]["tried"] == 2
    decode = ["decode", "exp/tiny", "--sets", "test", "--methods", "prefix_beam", "joint", "attention", "greedy", "--out", "rescored"]
    assert main([*decode, *common, "--tuned", "second.json"]) == 0
    assert "without second language model (--rescore-lm): method greedy takes no second language model" in capsys.readouterr().out
    weight = chosen["result"]["methods"]["joint"]["rescore_weight"]
    record = json.loads((here / f"rescored/test_joint_rescored{weight:g}.json").read_text())
    assert record["job"]["search"]["weights"]["rescore_weight"] == weight
    assert record["inputs"]["rescore_lm"]["sha256"] == chosen["inputs"]["rescore_lm"]["sha256"]
    assert float(record["result"]["WER"]) == pytest.approx(chosen["result"]["methods"]["joint"]["WER"], abs=0.006)
    assert "rescore_lm" not in json.loads((here / "rescored/test_greedy.json").read_text())["inputs"]
    assert main(["decode", "--again", str(here / f"rescored/test_joint_rescored{weight:g}.json"), "--device", "cpu", "--out",
                 str(here / "rescored_again")]) == 0
    assert "the same as recorded" in capsys.readouterr().out
    assert main([*decode[:-2], "--device", "cpu", "--tuned", "second.json"]) == 2
    assert "give --rescore-lm" in capsys.readouterr().err


def test_how_many_it_ranks(here, folder, capsys, monkeypatch):
    asked = []
    score = PretrainedLM.score
    monkeypatch.setattr(PretrainedLM, "score", lambda self, texts: asked.append(len(texts)) or score(self, texts))
    decode = ["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--methods", "prefix_beam", "joint", "rescoring"]
    second = ["--rescore-lm", str(folder), "--beam", "4"]
    assert main([*decode, *second, "--rescore-nbest", "2", "--out", "ranked"]) == 0
    assert asked and all(count % 2 == 0 and count <= 2 * 4 for count in asked)  # of four utterances at most
    path = here / "ranked" / "test_prefix_beam_rescored0.3.json"
    record = json.loads(path.read_text())
    assert record["job"]["search"]["weights"]["rescore_nbest"] == 2
    asked.clear()
    assert main(["decode", "--again", str(path), "--device", "cpu"]) == 0
    assert asked and max(asked) <= 8
    assert main(["tune", "exp/tiny", "--set", "test", "--methods", "prefix_beam", "--device", "cpu", *second, "--rescore-nbest", "3",
                 "--rescore-weights", "0.5", "--length-bonuses", "0", "--out", "ranked/tuned.json"]) == 0
    assert json.loads((here / "ranked" / "tuned.json").read_text())["job"]["search"]["weights"]["rescore_nbest"] == 3
    capsys.readouterr()
    for given, message in ((["--rescore-nbest", "5", *second], "--rescore-nbest 5: a beam of 4 has 1 to 4 hypotheses to rank"),
                           (["--rescore-nbest", "0", *second], "--rescore-nbest 0: "),
                           (["--rescore-nbest", "2"], "there is no --rescore-lm for which it would count")):
        assert main([*decode, *given]) == 2
        assert message in capsys.readouterr().err


def test_what_is_no_language_model_is_named(here, folder, tmp_path, capsys):
    decode = ["decode", "exp/tiny", "--sets", "test", "--device", "cpu", "--methods", "prefix_beam", "--rescore-lm"]
    assert main([*decode, "./nowhere"]) == 2
    assert "./nowhere: no such folder" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    assert main([*decode, str(tmp_path)]) == 2
    assert f"cannot load the language model {tmp_path}" in capsys.readouterr().err
    assert main([*decode[:-3], "--methods", "greedy", "--rescore-lm", str(folder)]) == 2
    assert "method greedy takes no second language model (--rescore-lm)" in capsys.readouterr().err
