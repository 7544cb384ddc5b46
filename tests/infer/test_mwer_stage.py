"""Minimum word error training as a last stage, by the command that docs/decoding.md gives."""

import json
from glob import glob

from voxkit.cli.main import main


def test_a_trained_run_goes_on_as_one_of_its_own(here):
    (config,) = glob("exp/*_tiny/config.yaml")
    assert main(["train", "--config", config, "--name", "mwer", "--init", "exp/tiny", "model.loss.mwer=1", "train.optimizer.lr=1e-5",
                 "train.epochs=2", "train.log_every=1", "--device", "cpu"]) == 0
    (metrics,) = glob("exp/*_mwer/metrics.json*")
    logged = [json.loads(line) for line in open(metrics)]
    assert any("mwer" in json.dumps(line) for line in logged)
    assert main(["decode", "exp/mwer", "--sets", "test", "--methods", "joint", "--device", "cpu", "--beam", "2"]) == 0
