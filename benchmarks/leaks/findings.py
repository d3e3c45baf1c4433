"""A row of the table: what an attack found."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hierfed.evaluation.attacks.roc import Area, Curve


@dataclass(frozen=True)
class Finding:
    """What an attack learned from what it saw; measures that an attack does not have are None.

    area, curve: of telling members from others. p_value: that it is chance. error: RMSE of reconstructed ratings, in
    stars; exact: the share of them that are right once rounded to half stars. epsilon: a lower bound, and the largest
    one that so many trainings could show. model_error: RMSE of the attacked model on ratings that it has not seen.
    """

    attack: str
    target: str
    protection: str
    seen: str
    area: Area | None = None
    curve: Curve | None = None
    p_value: float | None = None
    error: float | None = None
    exact: float | None = None
    epsilon: tuple[float, float] | None = None
    model_error: float | None = None
    seconds: float = 0.0


def timed(attack: Callable[[], list[Finding]]) -> list[Finding]:
    """The findings of an attack; its seconds, those of the trainings for it included, stand at the first of them."""
    began = time.perf_counter()
    first, *others = attack()
    return [replace(first, seconds=time.perf_counter() - began), *others]
