"""The names of what a search can be given: numbers to weigh by, and what is fused with the model's own scores. Needs no torch."""

# numbers that a search may weigh by: attributes of SearchOptions and of a run's DecodeConfig, keys of records
WEIGHTS = ("beam", "ctc_weight", "lm_weight", "rescore_weight", "rescore_nbest", "length_bonus", "length_limit", "coverage", "length_power",
           "internal_lm_weight", "symbols_per_frame")
# attribute of SearchOptions → what it is, with the option that gives it
FUSED = {"lm": "language model (--lm)", "context": "phrases (--phrases)", "rescore_lm": "second language model (--rescore-lm)"}
