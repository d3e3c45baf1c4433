"""Exact influence of own ratings on a kriged prediction: what changes when some of them are left out.

With P = K_l^-1, a = P y and c = P k_q, leaving out the ratings S changes the mean at level l by c_S' P_SS^-1 a_S: for
one rating by c_j a_j / P_jj. The levels' weights follow from the same quantities: |K_l| is multiplied by |P_SS|, and
y' P y loses a_S' P_SS^-1 a_S (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 5.4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Two ratings are near duplicates from this partial correlation on. Each makes up for the other, so that leaving out
# one of them alone changes little.
NEAR_DUPLICATE = 0.15


@dataclass(frozen=True)
class Influence:
    """The change of predictions by own ratings of one user: the mean with all ratings minus the mean without some.

    left_out [sets, 2]: the places of the ratings that are left out together, -1 where it is one alone. First come all
    ratings alone, in their order, then the pairs of near duplicates.
    moved [items, sets]: the change at each item.
    """

    left_out: Tensor
    moved: Tensor

    def times(self, unit: float) -> Influence:
        """The same in another unit."""
        return Influence(self.left_out, unit * self.moved)

    def among(self, places: Tensor, count: int) -> Influence:
        """The same for a user with more ratings, of which only those at `places` had a part; the others moved nothing.

        count: of all the user's ratings.
        """
        alone = torch.stack([torch.arange(count), torch.full((count,), -1)], 1)
        pairs = places[self.left_out[len(places) :]]
        moved = self.moved.new_zeros(len(self.moved), count)
        moved[:, places] = self.moved[:, : len(places)]
        return Influence(torch.cat([alone, pairs]), torch.cat([moved, self.moved[:, len(places) :]], 1))


@dataclass(frozen=True)
class LevelSystem:
    """One user's system at one level.

    level: l.
    inverse: K_l^-1, [n, n].
    solution: K_l^-1 y, [n].
    log_root: log |K_l| / 2.
    """

    level: float
    inverse: Tensor
    solution: Tensor
    log_root: Tensor

    def changes(self, cross: Tensor, sets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the mean [items, sets], of y' K^-1 y [sets], and of log |K| [sets], without each set.

        cross: K_q, [items, n].
        sets: places that are left out together, [sets, r].
        """
        inside = self.inverse[sets[:, :, None], sets[:, None, :]]
        pulled = torch.linalg.solve(inside, self.solution[sets])
        moved = torch.einsum("msr,sr->ms", (cross @ self.inverse)[:, sets], pulled)
        return moved, (self.solution[sets] * pulled).sum(1), torch.linalg.slogdet(inside).logabsdet


def near_duplicates(inverse: Tensor) -> Tensor:
    """The pairs of ratings, as places [pairs, 2], whose partial correlation is at least NEAR_DUPLICATE.

    inverse: K^-1, [n, n].
    """
    root = inverse.diagonal().sqrt()
    partial = -inverse / (root[:, None] * root[None, :])
    return torch.triu(partial >= NEAR_DUPLICATE, diagonal=1).nonzero()


def sets_of(count: int, pairs: Tensor) -> list[Tensor]:
    """All ratings alone, [count, 1], then the pairs, [pairs, 2]."""
    return [torch.arange(count)[:, None], pairs]


def padded(sets: Sequence[Tensor]) -> Tensor:
    """The sets one after the other, each filled up with -1 to two places."""
    return torch.cat([torch.nn.functional.pad(each, (0, 2 - each.shape[1]), value=-1) for each in sets])


def strongest(left_out: Tensor, moved: Tensor, most: int) -> list[tuple[tuple[int, int], float]]:
    """The sets that move a prediction most, strongest first, each with its change; no rating is in two of them.

    A pair stands for its two ratings where it moves the prediction further than both alone add up to.

    left_out: as in Influence, [sets, 2].
    moved: of one item, [sets].
    """
    size, pair = moved.abs(), left_out[:, 1] >= 0
    alone = size[left_out[pair]].sum(1)
    size[pair] = torch.where(size[pair] > alone, size[pair], 0)
    chosen: list[tuple[tuple[int, int], float]] = []
    used: set[int] = set()
    for place in size.argsort(descending=True, stable=True).tolist():
        first, second = left_out[place].tolist()
        if len(chosen) == most or size[place] == 0:
            break
        if not used & {first, second}:
            chosen.append(((first, second), float(moved[place])))
            used |= {first, second} - {-1}
    return chosen
