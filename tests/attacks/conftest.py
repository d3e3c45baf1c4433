"""What every attack needs: the village of a federation, and a base folder with every file that hierfed reads back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from tests.deployment.conftest import data, make_settings, village

__all__ = ["data", "make_settings", "village"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a node's state and a server's folder, and inputs; tests that change it must copy it."""
    from fuzzing.readers import make_base

    place = tmp_path_factory.mktemp("base")
    make_base(place)
    return place
