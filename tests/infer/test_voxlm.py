"""VoxLM as people use it, over every pair of encoder and language model: trained a step, saved, loaded, asked."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

import voxkit  # noqa: E402
from tests.decoders.tiny_llms import FAMILIES, make_llm  # noqa: E402
from tests.encoders import tiny  # noqa: E402
from tests.models.tiny_voxlm import SENTENCES, config_of, make_batch, vocabulary_of  # noqa: E402
from voxkit.encoders.front_end import FrontEndConfig  # noqa: E402
from voxkit.encoders.pretrained import PretrainedConfig  # noqa: E402
from voxkit.infer.recognizer import Recognizer  # noqa: E402
from voxkit.infer.voxlm import VoxLM, _teller, whole_vocabulary  # noqa: E402
from voxkit.search.hallucination import StopRule  # noqa: E402
from voxkit.search.options import SearchOptions  # noqa: E402

SOME = [(encoder, family) for encoder in ("whisper", "wavlm-base", "wav2vec2-large") for family in ("qwen2", "phi3", "gemma3_text")]
ALL = [(encoder, family) for encoder in tiny.KINDS for family in FAMILIES]
GENTLE = SearchOptions(method="generate", words=True, stop=StopRule(silence=0.0, length_factor=0.3, length_spare=2, entropy=1e9))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    known: dict[str, object] = {}

    def part(kind: str):
        if kind not in known:
            known[kind] = make_llm(root / kind, kind) if kind in FAMILIES else tiny.save_model(kind, root)
        return known[kind]

    return part


def fresh(parts, encoder: str, family: str, **options) -> VoxLM:
    torch.manual_seed(0)
    llm = parts(family)
    front_end = FrontEndConfig(kind="pretrained", pretrained=PretrainedConfig(name=str(parts(encoder))), adapter_hidden=16, adapter_dim=24)
    config = config_of(llm, front_end=front_end, learns=["front_end", "encoder", "ctc", "projector", "llm", "alignment"], **options)
    model = VoxLM(config, vocabulary_of(llm))
    with torch.no_grad():
        model.network.ctc.weight.mul_(8)
    return model


def step(model: VoxLM) -> float:
    """One step of training, without LoRA in the weights."""
    network = model.network
    for layer in [m for m in network.llm.modules() if hasattr(m, "lora_A") and m.merged]:
        layer.unmerge()
    network.train()
    network.config.loss.alignment = 0.5
    batch = make_batch(model.vocabulary, spans=True)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    before = network.loss(batch).total
    before.backward()
    optimizer.step()
    after = network.loss(batch).total
    network.eval()
    network.llm.merge()
    return float(before.detach() - after.detach())


def check_pair(parts, tmp_path, encoder: str, family: str) -> None:
    model = fresh(parts, encoder, family)
    assert step(model) > 0
    folder = model.save_pretrained(tmp_path / "saved")
    size = sum(p.stat().st_size for p in (folder / "model.safetensors", folder / "adapter" / "adapter_model.safetensors"))
    frozen = sum(v.numel() * v.element_size() for n, v in model.network.state_dict().items() if n in model.network.frozen_names())
    assert frozen > 50_000 and not any("embed_tokens" in name for name in _names(folder / "model.safetensors"))
    assert size < 1.2e6
    again = VoxLM.from_pretrained(folder)
    waves = [torch.randn(size, generator=torch.Generator().manual_seed(size)) * 0.1 for size in (24000, 8000)]
    together = model.transcribe(waves, options=GENTLE)
    assert [one["audio_duration"] for one in together] == [1.5, 0.5]
    for wave, one in zip(waves, together):
        alone = again.transcribe(wave, options=GENTLE)
        assert alone["text"] == one["text"] and len(alone["words"]) == len(one["words"])
        assert all(word["end"] > word["start"] for word in one["words"])
        for a, b in zip(alone["words"], one["words"]):
            assert (a["start"], a["end"]) == pytest.approx((b["start"], b["end"]), abs=2e-3)
    assert Recognizer.load(folder).methods() == model.recognizer.methods()  # a checkpoint as any other


def _names(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(file.keys())


@pytest.mark.parametrize("encoder, family", SOME)
def test_three_encoders_and_three_language_models(parts, tmp_path, encoder, family):
    check_pair(parts, tmp_path, encoder, family)


@pytest.mark.slow
@pytest.mark.parametrize("encoder, family", [pair for pair in ALL if pair not in SOME])
def test_every_encoder_and_every_language_model(parts, tmp_path, encoder, family):
    check_pair(parts, tmp_path, encoder, family)


def test_another_language_model_in_its_place_is_refused(parts, tmp_path):
    folder = fresh(parts, "whisper", "qwen2").save_pretrained(tmp_path / "saved")
    other = make_llm(tmp_path / "other", "qwen2", seed=5)
    with pytest.raises(ValueError, match="other weights of llm"):
        VoxLM.from_pretrained(folder, overrides=[f"model.llm.name={other}"])


def test_names_of_the_package():
    assert voxkit.VoxLM is voxkit.QwenSTT is VoxLM and voxkit.QwenSTTConfig is voxkit.VoxLMConfig
    assert voxkit.get_config("qwen-stt-2b").llm.name == "Qwen/Qwen2-1.5B-Instruct"
    with pytest.raises(AttributeError, match="VoxLM"):
        _ = voxkit.Whisper


def test_files_of_every_kind_have_an_answer_or_a_reason(parts, tmp_path):
    model = fresh(parts, "whisper", "qwen2")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "stereo.wav", 0.1 * rng.normal(size=(48000, 2)), 48000)
    soundfile.write(tmp_path / "short.wav", 0.1 * rng.normal(size=1600), 16000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    stereo, short = model.transcribe([tmp_path / "stereo.wav", tmp_path / "short.wav"], options=GENTLE)
    assert stereo["audio_duration"] == 1.0 and short["audio_duration"] == 0.1
    assert all(0 <= w["start"] < w["end"] <= 0.1 + 1e-6 for w in short["words"])
    assert model.transcribe(torch.zeros(80), options=GENTLE)["audio_duration"] == 0.005
    with pytest.raises(ValueError, match="broken.wav"):
        model.transcribe(tmp_path / "broken.wav")
    for wrong in (torch.zeros(2, 100), torch.full((100,), float("nan")), torch.zeros(100, dtype=torch.long)):
        with pytest.raises(ValueError, match="one row of finite numbers"):
            model.transcribe(wrong)


def test_text_grows_by_whole_characters(parts):
    """Bytes of one letter may lie in several tokens."""
    vocabulary, texts = vocabulary_of(parts("qwen2")), []
    told = _teller([4], vocabulary, lambda n, text: texts.append((n, text)))
    for token in vocabulary.encode("HOLD न你"):
        told(0, token)
    assert texts[-1] == (4, "HOLD न你") and all("\ufffd" not in text for _, text in texts)
    assert all(b.startswith(a) for (_, a), (_, b) in zip(texts, texts[1:]))


def test_tokens_are_told_as_they_come(parts):
    model = fresh(parts, "whisper", "qwen2")
    said: list[tuple[int, int]] = []
    options = SearchOptions(method="generate", stop=None, told=lambda row, token: said.append((row, token)))
    batch = make_batch(model.vocabulary)
    found = model.recognizer.recognize(batch, options)
    assert [row for row, _ in said[:3]] == [0, 1, 2]
    for n, one in enumerate(found):
        assert [token for row, token in said if row == n] == one.tokens


def test_long_audio_goes_in_pieces_on_the_recordings_clock(parts, monkeypatch):
    from voxkit.runtime import vad

    class Half:
        """Somebody speaks from second 5 to 15 and from 40 to 50."""

        def probabilities(self, audio):
            seconds = np.arange(len(audio) // 512 + 1) * 512 / 16000
            return (((seconds > 5) & (seconds < 15)) | ((seconds > 40) & (seconds < 50))).astype(np.float32)

    monkeypatch.setattr(vad, "Vad", Half)
    model = fresh(parts, "whisper", "qwen2")
    wave = 0.1 * torch.randn(60 * 16000, generator=torch.Generator().manual_seed(0))
    found = model.transcribe(wave, options=GENTLE)
    assert found["audio_duration"] == 60.0
    assert all(4 < w["start"] < 16 or 39 < w["start"] < 51 for w in found["words"])
    pieces = [model.transcribe(wave[int(a * 16000):int(b * 16000)], options=GENTLE) for a, b in ((4.8, 15.2), (39.8, 50.2))]
    assert abs(len(found["text"]) - sum(len(p["text"]) for p in pieces)) <= max(10, 0.5 * len(found["text"]))


def test_all_tokens_of_a_language_model_can_be_said(parts):
    from voxkit.decoders.llm_config import LLMConfig

    vocabulary = whole_vocabulary(LLMConfig(name=str(parts("qwen2"))))
    assert vocabulary.decode(vocabulary.encode(SENTENCES[0])) == SENTENCES[0]
    assert vocabulary.size == vocabulary.base.size - len(vocabulary.base.specials) + 2


def test_the_language_model_by_itself_says_the_same(parts, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = fresh(parts, "whisper", "qwen2")
    step(model)
    folder = model.save_llm(tmp_path / "llm")
    alone = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert AutoTokenizer.from_pretrained(folder).encode("HOLD") == model.vocabulary.base.encode("HOLD")
    tokens = torch.tensor([[5, 60, 99]])
    with torch.no_grad():
        own = model.network.llm.logits(model.network.llm(model.network.llm.embed(tokens), torch.tensor([3])))
        torch.testing.assert_close(alone(input_ids=tokens).logits, own, atol=1e-4, rtol=1e-4)
