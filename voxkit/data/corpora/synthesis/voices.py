"""The speakers of the toy corpus: as many throats as wanted, drawn at random, each written as an espeak-ng voice variant
(https://github.com/espeak-ng/espeak-ng, docs/voices.md)."""

from __future__ import annotations

import numpy as np

ACCENTS = ("en-us", "en")


def timbre(name: str, seed: int) -> str:
    """The variant file of the speaker of this name: half of them women, each with a vocal tract, a pitch and a way of voicing.

    Formants lie within a few per cent of a tract of one length, as in a human throat; strengths, widths and the rest vary around
    espeak-ng's own voice. The same name and seed give the same text.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    woman = rng.random() < 0.5
    tract = rng.uniform(1.06, 1.24) if woman else rng.uniform(0.9, 1.08)
    base = rng.uniform(145, 230) if woman else rng.uniform(72, 135)
    lines = ["language variant", f"name {name}", f"gender {'female' if woman else 'male'}",
             f"pitch {base:.0f} {base * rng.uniform(1.3, 1.6):.0f}"]
    for formant in range(9):
        place = 100 * tract * rng.normal(1, 0.03 if formant < 4 else 0.05)
        lines.append(f"formant {formant} {place:.0f} {rng.uniform(75, 120):.0f} {rng.uniform(85, 135):.0f}")
    lines += [f"voicing {rng.uniform(70, 130):.0f}", f"consonants {rng.uniform(75, 125):.0f} {rng.uniform(80, 120):.0f}",
              f"flutter {rng.integers(0, 6)}", f"roughness {rng.integers(0, 3)}"]
    return "\n".join(lines) + "\n"
