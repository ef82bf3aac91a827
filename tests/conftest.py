"""Rows that several tests look at: of all scripts, rehearsed and predicted."""

import os

# before PyTorch is imported: see `rehearsal/hardware.py` on threads of a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.rows_anew import rows_anew


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory) -> dict[str, dict]:
    """The rows of a rehearsal of all scripts, by script."""
    return rows_anew("rehearsed", tmp_path_factory.mktemp("rehearsed"), "rehearse.py")


@pytest.fixture(scope="session")
def ladder(tmp_path_factory) -> dict[str, dict]:
    """The rows of predictions of all scripts, by script."""
    return rows_anew("predicted", tmp_path_factory.mktemp("predicted"), "-m", "ladder.predict")


@pytest.fixture(scope="session")
def then(tmp_path_factory) -> dict[str, dict]:
    """The same of what is published, by the rules of 2023."""
    folder = tmp_path_factory.mktemp("predicted_2023")
    return rows_anew("predicted_2023", folder, "-m", "ladder.predict", "--as-of", "2023")
