"""hierfed: personalised recommendations learned from ratings that never leave their owner."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hierfed.api import Run, compare, prequential, run, sweep
    from hierfed.errors import HierfedError
    from hierfed.estimators import Hierarchical, Local
    from hierfed.evaluation.leaks import leak_test
    from hierfed.fitting import fit
    from hierfed.serving.recommender import Recommender, load

__version__ = "0.1.0"
__all__ = [
    "Hierarchical",
    "HierfedError",
    "Local",
    "Recommender",
    "Run",
    "__version__",
    "compare",
    "fit",
    "leak_test",
    "load",
    "prequential",
    "run",
    "sweep",
]

_PLACES = {
    "Hierarchical": "estimators",
    "HierfedError": "errors",
    "Local": "estimators",
    "Recommender": "serving.recommender",
    "Run": "api",
    "compare": "api",
    "fit": "fitting",
    "leak_test": "evaluation.leaks",
    "load": "serving.recommender",
    "prequential": "api",
    "run": "api",
    "sweep": "api",
}


def __getattr__(name: str) -> Any:
    """Load a name's module when it is first asked for: torch takes seconds, and `hierfed --help` does not need it."""
    if name in _PLACES:
        return getattr(import_module(f"hierfed.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'hierfed' has no attribute '{name}'")
