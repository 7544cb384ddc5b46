"""The untrained run of tests/infer."""

from tests.infer.conftest import here, run  # noqa: F401
