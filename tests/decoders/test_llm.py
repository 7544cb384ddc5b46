"""Language models of several families take vectors; batches, caches and adapters change nothing that they should not."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tests.decoders.tiny_llms import FAMILIES, make_llm  # noqa: E402
from voxkit.decoders.llm import LLM, refuse  # noqa: E402
from voxkit.decoders.llm_config import LLMConfig, LoraOptions  # noqa: E402
from voxkit.hub import shape_only  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("llms")
    return {family: make_llm(root / family, family) for family in FAMILIES}


def build(folder, **options) -> LLM:
    torch.manual_seed(4)
    return LLM(LLMConfig(name=str(folder), dtype="float32", lora=LoraOptions(rank=4, dropout=0.0), **options)).eval()


def stir(llm: LLM) -> None:
    """LoRA begins at zero; make it count."""
    torch.manual_seed(1)
    for name, parameter in llm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_as_vectors_give_the_logits_of_the_model(folders, family):
    from transformers import AutoModelForCausalLM

    llm = build(folders[family], learns="none")
    tokens = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folders[family]).eval()(input_ids=tokens).logits
        states = llm(llm.embed(tokens), torch.tensor([9, 9]))
    torch.testing.assert_close(llm.logits(states), expected, atol=1e-4, rtol=1e-4)
    some = torch.tensor([5, 17, 2])
    torch.testing.assert_close(llm.logits(states, some), expected[..., some], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_its_items_give_alone_and_a_cache_what_the_whole_gives(folders, family):
    llm = build(folders[family])
    stir(llm)
    lengths = torch.tensor([25, 4, 12])  # longer and shorter than Gemma's window
    x = torch.randn(3, 25, llm.dim, generator=torch.Generator().manual_seed(2)) * llm.rms
    with torch.no_grad():
        together = llm(x, lengths)
        last, past = llm.start(x, lengths)
        more = torch.randn(3, 6, llm.dim, generator=torch.Generator().manual_seed(3)) * llm.rms
        stepped = []
        for n in range(6):
            before = past.cache.get_seq_length()
            state, following = llm.step(more[:, n], past)
            assert past.cache.get_seq_length() == before  # a value: the step left it as it was
            stepped.append(state)
            past = following
        for row, size in enumerate(lengths.tolist()):
            alone = llm(x[row:row + 1, :size], torch.tensor([size]))[0]
            torch.testing.assert_close(together[row, :size], alone, atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(last[row], alone[-1], atol=2e-4, rtol=1e-3)
            whole = llm(torch.cat([x[row, :size], more[row]])[None], torch.tensor([size + 6]))[0, size:]
            torch.testing.assert_close(torch.stack(stepped)[:, row], whole, atol=2e-4, rtol=1e-3)


def test_selected_rows_go_on_by_themselves(folders):
    llm = build(folders["gemma3_text"], learns="none")
    x = torch.randn(2, 20, llm.dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, past = llm.start(x, torch.tensor([20, 9]))
        index = torch.tensor([1, 1, 0])
        steps = torch.randn(3, llm.dim, generator=torch.Generator().manual_seed(1))
        states, _ = llm.step(steps, past.select(index))
        for n, row in enumerate(index.tolist()):
            alone, _ = llm.step(steps[n:n + 1], past.select(torch.tensor([row])))
            torch.testing.assert_close(states[n], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_lora_learns_beside_frozen_weights_and_can_be_merged(folders, family, tmp_path):
    llm = build(folders[family])
    learning = [name for name, p in llm.named_parameters() if p.requires_grad]
    assert learning and all(".lora_" in name for name in learning)
    assert not any("lm_head" in name or "embed_tokens" in name for name in learning)
    assert llm.frozen_names() == {n for n in llm.state_dict() if n not in learning}
    stir(llm)
    x, lengths = torch.randn(1, 7, llm.dim), torch.tensor([7])
    with torch.no_grad():
        with_lora, plain = llm(x, lengths), build(folders[family], learns="none")(x, lengths)
        assert (with_lora - plain).abs().max() > 0.1
        with llm.merged():
            torch.testing.assert_close(llm(x, lengths), with_lora, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(llm(x, lengths), with_lora, atol=1e-4, rtol=1e-4)
        llm.save_merged(tmp_path / "merged")
        torch.testing.assert_close(build(tmp_path / "merged", learns="none")(x, lengths), with_lora, atol=1e-4, rtol=1e-4)


def test_peft_loads_the_adapter_by_itself(folders, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    llm = build(folders["qwen2"])
    stir(llm)
    llm.save_adapter(tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 60_000  # no base weights
    other = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folders["qwen2"]), str(tmp_path)).eval()
    tokens = torch.tensor([[3, 60, 99]])
    with torch.no_grad():
        found = llm.logits(llm(llm.embed(tokens), torch.tensor([3])))
        torch.testing.assert_close(found, other(input_ids=tokens).logits, atol=1e-4, rtol=1e-4)


def test_the_rms_is_what_the_layers_read(folders):
    """Gemma multiplies its embeddings by the root of the width inside the embedding module."""
    llm = build(folders["gemma3_text"], learns="none")
    table = llm.model.get_input_embeddings().weight
    assert llm.rms == pytest.approx(float(table.square().mean().sqrt()) * llm.dim**0.5, rel=0.1)
    assert build(folders["llama"], learns="none").rms == pytest.approx(float(
        build(folders["llama"], learns="none").model.get_input_embeddings().weight.square().mean().sqrt()), rel=0.1)


def test_language_models_with_inputs_to_every_layer_are_refused():
    from transformers import AutoConfig

    for kind in ("gemma3n_text", "gemma4_text"):
        with pytest.raises(ValueError, match="token ids"):
            refuse(AutoConfig.for_model(kind), kind)


@pytest.mark.parametrize("options, named", [({"name": ""}, "model.llm.name"), ({"name": "/nowhere/at/all"}, "no such folder"),
                                            ({"learns": "some"}, "learns"), ({"learns": "all", "dtype": "bfloat16"}, "float32"),
                                            ({"quantized": "4bit", "learns": "all"}, "quantized")])
def test_what_cannot_be_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        LLM(LLMConfig(**options))


def test_lora_on_layers_that_do_not_exist_is_named(folders):
    with pytest.raises(ValueError, match="lora.targets"):
        LLM(LLMConfig(name=str(folders["phi3"]), lora=LoraOptions(targets="q_proj")))  # Phi's are fused


def test_shapes_need_no_weights():
    with shape_only():
        llm = LLM(LLMConfig(name="Qwen/Qwen2-0.5B", architecture={"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 2}))
    assert all(p.is_meta for p in llm.parameters()) and llm.dim == 896


def test_checkpointed_layers_give_the_same_gradients(folders):
    grads = []
    for recompute in (False, True):
        llm = build(folders["llama"], gradient_checkpointing=recompute).train()
        stir(llm)
        x = torch.randn(2, 6, llm.dim, generator=torch.Generator().manual_seed(5))
        llm(x, torch.tensor([6, 3])).square().sum().backward()
        grads.append([p.grad for p in llm.parameters() if p.requires_grad])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)
