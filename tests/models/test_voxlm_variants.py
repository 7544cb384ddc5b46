"""Every variant is built on the meta device, and has the parameters that its parts are known to have."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")

from voxkit.hub import shape_only  # noqa: E402
from voxkit.models.voxlm import VoxLM  # noqa: E402
from voxkit.models.voxlm_variants import ALIASES, LLMS, VARIANTS, get_config  # noqa: E402

PUBLISHED = {"Qwen/Qwen2-0.5B-Instruct": 494_032_768, "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768, "Qwen/Qwen2-1.5B-Instruct": 1_543_714_304,
             "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688, "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
             "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248, "microsoft/phi-4": 14_659_507_200}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_built_without_weights(name):
    config = get_config(name)
    config.vocab_size = 5000
    with shape_only():
        model = VoxLM(config)
    assert all(p.is_meta for p in model.llm.parameters())
    base = sum(p.numel() for n, p in model.llm.named_parameters() if ".lora_" not in n)
    assert base == PUBLISHED[config.llm.name]
    learning = [(n, p.numel()) for n, p in model.named_parameters() if p.requires_grad]
    assert any(".lora_" in n for n, _ in learning) and not any("front_end.pretrained" in n for n, _ in learning)
    assert sum(size for _, size in learning) < 0.12 * base
    assert model.seconds_per_frame == pytest.approx(0.02)


def test_phi_has_lora_in_its_fused_layers():
    config = get_config("voxlm-phi-4")
    config.vocab_size = 5000
    with shape_only():
        model = VoxLM(config)
    assert any("qkv_proj.lora_A" in n for n, _ in model.named_parameters())


def test_names_answer():
    assert get_config("qwen-stt-2b").llm.name == get_config("voxlm-2b").llm.name == get_config().llm.name
    assert get_config("voxlm-2b", encoder="/some/folder", llm="/another").front_end.pretrained.name == "/some/folder"
    assert {row.llm for row in VARIANTS.values()} == set(LLMS) and set(ALIASES.values()) <= set(VARIANTS)
    with pytest.raises(ValueError, match="voxlm-edge"):
        get_config("voxlm-3b")


def test_configurations_are_their_own():
    one, other = get_config("voxlm-edge"), get_config("voxlm-edge")
    one.llm.architecture["hidden_size"] = 1
    assert other.llm.architecture["hidden_size"] == 896
