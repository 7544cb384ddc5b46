"""voxkit: a recipe-based speech toolkit. Start at README.md; `voxkit --help` lists the commands."""

from typing import Any

__version__ = "0.1.0"

_NAMES = {  # what is had from here, and where it is: nothing is imported before it is asked for
    "Recognizer": "voxkit.infer.recognizer:Recognizer",
    "VoxLM": "voxkit.infer.voxlm:VoxLM", "VoxLMConfig": "voxkit.models.voxlm:VoxLMConfig",
    "get_config": "voxkit.models.voxlm_variants:get_config",
    "QwenSTT": "voxkit.infer.voxlm:VoxLM", "QwenSTTConfig": "voxkit.models.voxlm:VoxLMConfig",  # the names of VoxLM before
    "AudioTokenizer": "voxkit.codecs.tokenizer:AudioTokenizer",
    "LaCTAudioGenerator": "voxkit.models.lact_audio:LaCTAudioGenerator",
    "BaselineAudioTransformer": "voxkit.models.lact_audio:BaselineAudioTransformer",
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'voxkit' has no attribute {name!r}; it has {', '.join(_NAMES)}")
    import importlib

    module, _, attribute = _NAMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
