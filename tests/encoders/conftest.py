from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Small random checkpoints of every family, by kind."""
    from tests.encoders import tiny

    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: tiny.save_model(kind, folder) for kind in tiny.KINDS}
