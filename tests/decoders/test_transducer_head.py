"""The transducer's head: contexts, padding, the internal language model, and icefall's golden outputs."""

import pytest
import torch

from tests.tools.test_import_icefall import tool
from voxkit.decoders.transducer import PADDING, Transducer, TransducerConfig


def head(seed=0, vocab=7, encoder_dim=8, **options):
    torch.manual_seed(seed)
    return Transducer(TransducerConfig(**{"decoder_dim": 12, "joiner_dim": 10, **options}), vocab, encoder_dim).eval()


@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_step_says_what_the_whole_text_says(context):
    model = head(context=context)
    tokens = torch.tensor([[1, 2, 3, 3], [4, 5, 6, 1]])
    whole = model.joiner.decoder_proj(model.decode(tokens))
    now = model.init_context(2)
    for u in range(5):
        torch.testing.assert_close(model.say(now), whole[:, u])
        if u < 4:
            now = torch.cat((now[:, 1:], tokens[:, u:u + 1]), 1)


def test_the_decoder_sees_its_context_alone():
    model = head(context=2)
    a, b = model.decode(torch.tensor([[1, 2, 3], [6, 2, 3]])).unbind(0)
    torch.testing.assert_close(a[3:], b[3:])
    assert not torch.allclose(a[2], b[2])
    alone = model.decoder(torch.tensor([[PADDING, 0]]))[:, -1]
    torch.testing.assert_close(alone[0], a[0])


def test_the_internal_language_model_is_what_silence_leaves():
    model = head()
    said = model.say(torch.tensor([[1, 2], [3, 4]]))
    found = model.internal_lm(said)
    assert (found[:, 0] == -torch.inf).all()
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2))
    silent = model.join(model.hear(torch.zeros(2, 8)), said)[:, 1:]
    torch.testing.assert_close(found[:, 1:], silent - silent.logsumexp(-1, keepdim=True))


def test_a_search_may_begin_with_blanks():
    nothing, blank = (head(start=start, context=3).init_context(2).tolist() for start in ("nothing", "blank"))
    assert nothing == [[PADDING, PADDING, 0]] * 2 and blank == [[0, 0, 0]] * 2
    assert TransducerConfig(start="bos").problems() == ["start: 'bos' is none of nothing, blank"]


def test_sizes_that_do_not_fit_are_named():
    assert TransducerConfig(decoder_dim=10).problems() == ["group_size: 4 does not divide decoder_dim 10"]
    assert TransducerConfig(context=0).problems() == ["context: 0 is below 1"]


@pytest.fixture(scope="module")
def golden(shared_dir):
    """What icefall's own code gave, and the head with its weights."""
    file = shared_dir / "golden" / "transducer.pt"
    if not file.is_file():
        pytest.skip(f"no golden outputs at {file}")
    entry = torch.load(file, weights_only=True)
    _, state = tool.import_state_dict(entry["state_dict"], entry["kwargs"])
    config = TransducerConfig(**tool.transducer_options(state), start="blank")
    model = Transducer(config, entry["logits"].shape[-1], entry["encoder_out"].shape[-1])
    model.load_state_dict({name.removeprefix("transducer."): value for name, value in state.items() if name.startswith("transducer.")})
    return entry, model.eval()


def test_golden_outputs(golden):
    golden, model = golden
    decoded = model.decode(golden["tokens"])
    torch.testing.assert_close(decoded, golden["decoder_out"], rtol=0, atol=1e-4)
    logits = model.joiner(model.hear(golden["encoder_out"])[:, :, None], model.joiner.decoder_proj(decoded)[:, None])
    torch.testing.assert_close(logits, golden["logits"], rtol=0, atol=1e-4)
