import numpy as np
import pytest
import soundfile

from voxkit.eval.calibration import calibration
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
    assert "http" not in page  # self-contained
    with pytest.raises(ValueError, match="no such picture"):
        write_report(tmp_path / "r.html", result, curves=[tmp_path / "none.png"])
