"""Similarity of two ratings of one user by the times at which they were given."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

SECONDS_OF_A_DAY = 86_400.0
# The days after which similarity has fallen to 1 / e: of a sitting of minutes, of a day, of a slow drift of tastes, and
# of what is alike between items in one sitting.
SITTING, DAY, DRIFT, ITEMS_OF_A_SITTING = 0.005, 0.5, 100.0, 0.01


@dataclass(frozen=True)
class TimeKernel:
    """What times add to a kernel k of items: sum over parts of a exp(-d / tau) + c k exp(-d / tau_c), d in days.

    Amplitudes are variances in squared units of the ratings' scale; 0 leaves a part out.

    sitting, day, drift: a of the parts, whose tau are SITTING, DAY and DRIFT.
    items: c, whose tau is ITEMS_OF_A_SITTING.

    >>> import torch
    >>> TimeKernel(sitting=0.05, items=1.0).of_itself(torch.tensor([0.2]))
    tensor([0.4500])
    """

    sitting: float = 0.0
    day: float = 0.0
    drift: float = 0.0
    items: float = 0.0

    @property
    def used(self) -> bool:
        """True if any part is left."""
        return any((self.sitting, self.day, self.drift, self.items))

    def scaled(self, factor: float) -> TimeKernel:
        """The same with all amplitudes multiplied."""
        return replace(self, **{name: factor * amplitude for name, amplitude in vars(self).items()})

    def join(self, of_items: Tensor, left: Tensor, right: Tensor) -> None:
        """Make a kernel of items one of items and times, in place.

        of_items: [users, n, m].
        left, right: the times in seconds, float64 [users, n] and [users, m].
        """
        days = (left[:, :, None] - right[:, None, :]).abs_().div_(SECONDS_OF_A_DAY).to(of_items.dtype)
        if self.items:
            of_items.mul_((days / -ITEMS_OF_A_SITTING).exp_().mul_(self.items).add_(1))
        for amplitude, decay in ((self.sitting, SITTING), (self.day, DAY), (self.drift, DRIFT)):
            if amplitude:
                of_items.add_((days / -decay).exp_(), alpha=amplitude)

    def of_itself(self, of_items: Tensor) -> Tensor:
        """The variance of each rating, in the shape of `of_items`, the variances by the kernel of items."""
        return of_items * (1 + self.items) + (self.sitting + self.day + self.drift)


NO_TIME = TimeKernel()
"""Ratings are alike at all times."""
