"""Neural language models: step by step equals whole, what they learn, and that they steer a search."""

import pytest
import torch

from voxkit.cli.main import main
from voxkit.infer.language_model import load_language_model
from voxkit.models.token_lm import TokenLM, TokenLMConfig
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.search.recurrent_scorer import RecurrentScorer
from voxkit.search.scorer import NeuralScorer, Weighted
from voxkit.text.sentencepiece import train_characters
from voxkit.text.vocabulary import load_vocabulary

TEXT = ["heal me now", "ward me", "push the left lane", "heal the ward"] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("lm")
    train_characters(TEXT, root / "tokens.model")
    (root / "text.txt").write_text("\n".join(TEXT))
    for kind in ("lstm", "transformer"):
        assert main(["lm", "train-neural", "--text", str(root / "text.txt"), "--dev", str(root / "text.txt"), "--tokenizer",
                     str(root / "tokens.model"), "--kind", kind, "--dim", "32", "--layers", "1", "--dropout", "0", "--epochs", "20", "--lr",
                     "0.01", "--out", str(root / kind)]) == 0
    return root


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_padding_and_the_future_do_not_matter(kind):
    torch.manual_seed(0)
    model = TokenLM(TokenLMConfig(kind, dim=16, layers=2, heads=2, ffn=32, vocab_size=9)).eval()
    tokens = torch.tensor([[1, 4, 5, 0], [1, 6, 7, 8]])
    found = model.next_log_probs(tokens, torch.tensor([3, 4]))
    torch.testing.assert_close(found[0], model.next_log_probs(tokens[:1, :3], torch.tensor([3]))[0])


def test_steps_equal_the_whole():
    torch.manual_seed(0)
    model = TokenLM(TokenLMConfig("lstm", dim=16, layers=2, vocab_size=9)).eval()
    scorer, whole = RecurrentScorer(model.advance), NeuralScorer(model.next_log_probs)
    a, b = scorer.init(3, torch.device("cpu")), whole.init(3, torch.device("cpu"))
    for tokens in ([4, 5, -1], [6, -1, 7], [8, 8, 8]):
        tokens = torch.tensor(tokens)
        a, b = scorer.advance(a, tokens), whole.advance(b, tokens)
        index = torch.tensor([2, 0, 0])
        a, b = scorer.select(a, index), whole.select(b, index)
        candidates = torch.arange(3, 9).expand(3, -1)
        torch.testing.assert_close(scorer.score(a, candidates), whole.score(b, candidates))
        torch.testing.assert_close(scorer.final(a), whole.final(b))


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_trained_it_steers_the_beam(folder, kind):
    tokenizer = load_vocabulary(folder / "tokens.model")
    scorer = load_language_model(folder / kind, tokenizer)
    right, wrong = tokenizer.encode("heal me"), tokenizer.encode("hean me")
    frames = torch.full((1, 2 * len(right), tokenizer.size), -8.0)
    frames[0, 1::2, 0] = 8.0
    for i, (r, w) in enumerate(zip(right, wrong)):
        frames[0, 2 * i, r], frames[0, 2 * i, w] = 5.0, 5.0
        if r != w:
            frames[0, 2 * i, w] = 5.5  # heard a little better
    log_probs, lengths = frames.log_softmax(-1), torch.tensor([frames.shape[1]])
    assert tokenizer.decode(ctc_prefix_beam(log_probs, lengths, 5)[0][0].tokens) == "hean me"
    assert tokenizer.decode(ctc_prefix_beam(log_probs, lengths, 5, scorer=Weighted(scorer, 0.5))[0][0].tokens) == "heal me"


def test_wrong_ones_are_refused(folder, tmp_path):
    other = train_characters(["another text"], tmp_path / "other.model")
    with pytest.raises(ValueError, match="over other tokens"):
        load_language_model(folder / "lstm", other)
    with pytest.raises(ValueError, match="no language model at"):
        load_language_model(tmp_path / "none", other)
