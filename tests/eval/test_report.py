import re

import numpy as np
import pytest
import soundfile

from voxkit.eval.calibration import calibration
from voxkit.eval.charts import bars, rate_bars
from voxkit.eval.report import write_report
from voxkit.eval.wer import score


def test_report(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(16000) / 20), 16000)
    result = score({"a": "heal <me> now", "b": "push", "c": "ok"}, {"a": "heal him now now", "b": "", "c": "ok"})
    (tmp_path / "curve.png").write_bytes(b"png")
    write_report(tmp_path / "out" / "r.html", result, title="a & b", speakers={"a": "s1", "b": "s2"}, durations={"a": 1.0, "b": 9.0},
                 audio={"a": (str(tmp_path / "a.wav"), 0.25, 0.5), "b": (str(tmp_path / "gone.wav"), 0.0, 1.0)},
                 calibrated={"dev": calibration([0.5, 0.9], [False, True])}, curves=[tmp_path / "curve.png"])
    page = (tmp_path / "out" / "r.html").read_text()
    for piece in ("a &amp; b", "data:audio/flac;base64,", "cannot be read", "&lt;me&gt;", 'class="del"', "s2", "5-10 s", "<svg",
                  "image/png"):
        assert piece in page
    parts = ("<rect", "<circle", "worst utterances", "image/png", "By duration", "By speaker", "Confusions")
    order = [page.index(part) for part in parts]
    assert order == sorted(order)  # the picture, the worst utterances, then the rest
    assert "<details><summary>3 speakers" in page
    assert "http" not in page  # self-contained
    with pytest.raises(ValueError, match="no such picture"):
        write_report(tmp_path / "r.html", result, curves=[tmp_path / "none.png"])


def test_without_durations_the_picture_goes_by_length(tmp_path):
    result = score({"a": "x " * 3, "b": "x " * 60, "empty": ""}, {"a": "x y x", "b": "x " * 59, "empty": ""})
    write_report(tmp_path / "r.html", result)
    page = (tmp_path / "r.html").read_text()
    assert "WER by length" in page and "0-5 words: 33.33 %" in page and "over 40 words: 1.67 %" in page


def test_a_rate_above_one_stays_in_the_picture(tmp_path):
    bar = rate_bars(score({"a": "x", "b": "y"}, {"a": "x " * 30, "b": "y"}), ["0-2 s"], {"a": "0-2 s", "b": "0-2 s"})
    drawn = bars(bar, "WER")
    assert "1450.0" in drawn and not any(float(height) > 200 for height in re.findall(r' height="([\d.]+)"/?><title', drawn))


@pytest.mark.parametrize("half", ["\ud800", "\udfff"])
def test_half_a_surrogate_pair_is_replaced(tmp_path, half):
    write_report(tmp_path / "r.html", score({f"a{half}": f"x{half}"}, {f"a{half}": "y"}), title=half, speakers={f"a{half}": half})
    assert "\ufffd" in (tmp_path / "r.html").read_text(encoding="utf-8")
