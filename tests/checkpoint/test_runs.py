"""Which run a name means: the newest, whatever a wrong clock has written into names."""

from __future__ import annotations

import os
import time

import pytest

from voxkit.checkpoint.runs import find_run_dir, latest_run


def make(root, name, written):
    (root / name).mkdir(parents=True)
    (root / name / "train.log").touch()
    for path in (root / name / "train.log", root / name):
        os.utime(path, (written, written))
    return root / name


def test_by_their_stamps(tmp_path):
    now = time.time()
    make(tmp_path, "20250101_000000_stage1", now)
    newest = make(tmp_path, "20250102_000000_stage1", now - 1000)
    make(tmp_path, "20260102_000000_stage2", now)
    assert latest_run(tmp_path, "stage1") == newest == find_run_dir(tmp_path / "stage1") and latest_run(tmp_path, "stage3") is None


@pytest.mark.parametrize("stamp", ["20991231_235959", None])
@pytest.mark.parametrize("written", [-5000, +9e8])
def test_a_stamp_in_the_future_hides_no_later_run(tmp_path, caplog, stamp, written):
    """Its files are older than those of the run of today, or dated by the same wrong clock."""
    now = time.time()
    stamp = stamp or time.strftime("%Y%m%d_%H%M%S", time.localtime(now + 7200))
    ahead = make(tmp_path, f"{stamp}_stage1", now + written)
    assert latest_run(tmp_path, "stage1") == ahead and not caplog.text
    make(tmp_path, "20250101_000000_stage1", now - 9000)
    today = make(tmp_path, "20250102_000000_stage1", now - 10)
    assert latest_run(tmp_path, "stage1") == today
    assert f"{ahead}: the date in the name lies in the future" in caplog.text and str(today) in caplog.text


def test_the_one_that_was_written_to_last_goes_on_though_its_name_lies_in_the_future(tmp_path, caplog):
    now = time.time()
    make(tmp_path, "20250102_000000_stage1", now - 1000)
    ahead = make(tmp_path, "20991231_235959_stage1", now - 10)
    assert latest_run(tmp_path, "stage1") == ahead and "lies in the future" in caplog.text
