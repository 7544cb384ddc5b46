"""Audio ↔ discrete tokens: one contract, a codec of our own, baselines, pretrained codecs."""
