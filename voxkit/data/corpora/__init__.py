"""Corpora: each module here turns one into `cuts_<split>.jsonl.gz` (`voxkit prepare <module>`), checked by `voxkit.data.validate`.

    librispeech   LibriSpeech and mini LibriSpeech, downloaded or from a tree that is there
    toy           players' commands, synthesized on the spot
    toyseq        features like those of speech, every boundary known, made on the spot
    nonspeech     clips in which nobody speaks, labeled empty
    lhotse        any corpus that lhotse has a recipe for: lhotse:aishell, lhotse:commonvoice, ...
    folder        your own: audio with a table of transcripts, a Kaldi directory, or lhotse manifests
"""

from voxkit.data.manifests import load_cuts

__all__ = ["load_cuts"]
