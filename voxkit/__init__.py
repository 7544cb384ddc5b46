"""voxkit: a recipe-based speech toolkit. Start at README.md; `voxkit --help` lists the commands."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`voxkit.Recognizer`, imported when it is first asked for: nothing happens at import time."""
    if name == "Recognizer":
        from voxkit.infer.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module 'voxkit' has no attribute {name!r}")
