"""`voxkit transcribe` with an artifact of `voxkit export`: the same options where they apply, and no torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from voxkit.hypothesis import Hypothesis

_SAME = ("beam", "ctc_weight", "lm_weight", "length_bonus", "length_limit", "coverage", "length_power")  # names of both SearchOptions
_OTHERS = ("rescore_lm", "rescore_weight", "rescore_nbest", "graph", "tuned", "left_ms", "internal_lm_weight")
_BOOST = 1.5

Changed = Callable[[float, Hypothesis, str], None]


def artifact_transcriber(args: argparse.Namespace, changed: Changed) -> Callable[[str], Hypothesis]:
    """A path → its hypothesis.

    Args:
        args: of `voxkit transcribe`, whose `checkpoint` is an artifact.
        changed: with --stream, what to do where the text changes: (seconds of audio heard, the hypothesis, the path).

    Raises:
        ValueError: options that are not of an artifact, or that it cannot serve.
    """
    from voxkit.runtime.artifact import Artifact
    from voxkit.runtime.recognizer import OnnxRecognizer

    if given := [f"--{name.replace('_', '-')}" for name in _OTHERS if getattr(args, name, None) is not None]:
        raise ValueError(f"{', '.join(given)}: {args.checkpoint} is an artifact, which runs without them; give the checkpoint that it was "
                         "made from")
    artifact = Artifact(args.checkpoint, device=args.device)
    if args.chunk_ms is not None and (artifact.streaming is None or args.chunk_ms != artifact.streaming["chunk_ms"]):
        baked = f"chunks of {artifact.streaming['chunk_ms']:g} ms" if artifact.streaming else "whole utterances"
        raise ValueError(f"--chunk-ms {args.chunk_ms:g}: {args.checkpoint} was made for {baked}; another chunk is another "
                         "`voxkit export --streaming --chunk-ms`")
    if artifact.streaming is not None:
        return _streaming(args, artifact, changed)
    if args.stream:
        raise ValueError(f"--stream: {args.checkpoint} takes whole utterances; make a streaming artifact with `voxkit export --streaming`")
    recognizer = OnnxRecognizer(artifact)
    options = _options(args, recognizer)
    recognizer.check(options)
    return lambda path: recognizer.transcribe(path, options)


def _streaming(args: argparse.Namespace, artifact: object, changed: Changed) -> Callable[[str], Hypothesis]:
    """A file as if it were spoken now, as one utterance."""
    from voxkit.audio.decode import read_mono
    from voxkit.runtime.recognizer import OnnxRecognizer
    from voxkit.runtime.streaming import StreamingRecognizer

    stream = StreamingRecognizer(artifact, _options(args, OnnxRecognizer(artifact)))

    def transcribe(path: str) -> Hypothesis:
        audio, session = read_mono(path)[0], stream.session(endpointing=None)
        piece = session.rate // 25
        for first in range(0, len(audio), piece):
            for event in session.accept(audio[first:first + piece]):
                if args.stream:
                    changed(session.seconds, event.hypothesis, path)
        return session.finalize()[-1].hypothesis

    return transcribe


def _options(args: argparse.Namespace, recognizer: object) -> object:
    from voxkit.cli.idle_options import check_needs
    from voxkit.cli.search_options import read_phrases
    from voxkit.runtime.recognizer import SearchOptions

    check_needs({name: getattr(args, name) for name in ("lm_weight", "lm", "boost", "phrases")})
    given = {name: getattr(args, name) for name in _SAME if getattr(args, name, None) is not None}
    if args.lm:
        given["lm"] = recognizer.language_model(args.lm)
    if args.phrases:
        given["context"] = recognizer.phrases(read_phrases(args.phrases, _BOOST if args.boost is None else args.boost))
    return SearchOptions(args.method, words=args.json or bool(args.format), times=args.times or "alignment", **given)
