"""hierfed: personalised recommendations learned from ratings that never leave their owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hierfed.api import Run, run
    from hierfed.evaluation.leaks import leak_test

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "leak_test", "run"]


def __getattr__(name: str) -> Any:
    """Load the API when it is first asked for: torch takes seconds, and `hierfed --help` does not need it."""
    if name in ("Run", "run"):
        from hierfed import api  # noqa: PLC0415

        return getattr(api, name)
    if name == "leak_test":
        from hierfed.evaluation.leaks import leak_test  # noqa: PLC0415

        return leak_test
    raise AttributeError(f"module 'hierfed' has no attribute '{name}'")
