"""The bounds of a node's sums: what users and ratings can add, and how far an item can be drawn by its raters.

A node that breaks a bound is left out whole, so that the model is that of the other nodes. Where a node as a whole is
credible, each item gets its own test: with A_k and c_k the node's sums for the item, and Cov and g the item's posterior
without the node,

    s = c_k - A_k g ~ N(0, V),   V = A_k + A_k Cov A_k,   if the node's raters are like the others

s' V^-1 s is about its size for an honest node. A node above the limit adds nothing to the item. A node whose tests
together lie far above the other nodes' is left out. Liars whose users are most of an item's raters would look right
beside each other. So a node is no part of "the others", and its limit is narrow, where too many of its users rated the
item, compared with the middle half of the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hierfed.federated.contract import Contribution
from hierfed.federated.screen import alike_in_direction, within
from hierfed.methods.hierarchical.beliefs import ITEM_BIAS_VARIANCE, Beliefs
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.rare_items import PRECISION, PULL
from hierfed.models.symmetric import inverse, pack, unpack

# How far a node's mean per user or rating may be from the other nodes' median, in logs.
PER_USER, PER_RATING, TESTS = 0.7, 0.25, 0.25
# How much further from the median a node's vectors may be than the median node's, in logs.
DISTANCE = 1.2
# The largest test of an item, as a multiple of its degrees of freedom's usual deviation above them.
ITEM_DEVIATIONS = 6.0
# The same where so many of a node's users rated the item that it is no chance, and the negative logarithm of how
# unlikely that is.
CROWD_DEVIATIONS, UNLIKELY = 1.0, 3.0
# How much more a node may weigh than the median node, in users.
LARGEST = 3.0


def credible_counts(given: Sequence[Contribution], limits: tuple[float, float]) -> list[Contribution]:
    """The first opening round's contributions that are counts of users and ratings within these limits."""
    low, high = limits
    kept = []
    for each in given:
        raters, (count, total, squares), users = each.arrays["raters"], each.arrays["moments"], each.arrays["users"]
        honest = bool(
            (raters >= 0).all()
            and (raters <= users).all()
            and float((raters.sum() - count).abs()) < 0.5
            and low * count <= total <= high * count
            and total.square() <= squares * count * (1 + 1e-9)
            and squares <= (low + high) * total - low * high * count + 1e-6 * squares
        )
        if honest:
            kept.append(each)
    return _capped(kept)


def credible_directions(given: Sequence[Contribution]) -> list[Contribution]:
    """The other opening rounds' contributions of about one size and direction."""
    given = [each for each in given if _products_possible(each.arrays)]
    return [each for each, alike in zip(given, alike_in_direction(given), strict=True) if alike]


def credible_sums(
    given: Sequence[Contribution], beliefs: Beliefs, design: Design, features: Tensor
) -> list[Contribution]:
    """The sums of users' posteriors that are those of users and ratings like the other nodes'.

    features: of the items' priors.
    """
    given = [each for each in given if _possible(each.arrays)]
    if not given:
        return []
    alike = torch.ones(len(given), dtype=torch.bool)
    for value, floor in (
        (_ratio(given, "ratings", "users"), 1.5),
        (_ratio(given, "squared_error", "ratings"), PER_RATING),
        (_ratio(given, "precision", "users"), PER_RATING),
        (_ratio(given, "user_moments", "users"), PER_USER),
    ):
        alike &= within(value.log(), floor)
    targets = torch.stack([(each.arrays["covariate_targets"] / each.arrays["users"]).flatten() for each in given])
    alike &= within((targets - targets.median(0).values).norm(dim=1).clamp_min(1e-300).log(), DISTANCE)
    given = [each for each, passes in zip(given, alike.tolist(), strict=True) if passes]
    many = _too_many_raters(given)
    tests, known = _item_tests(given, many, beliefs, design, features)
    whole = (tests.clamp_max(10) * known).sum(1) / known.sum(1).clamp_min(1)
    alike = within(whole.clamp_min(1e-3).log(), TESTS)
    size = 1 + beliefs.rank
    limits = 1 + torch.where(many, CROWD_DEVIATIONS, ITEM_DEVIATIONS) * (2 / size) ** 0.5
    kept = []
    for each, passes, test, limit in zip(given, alike.tolist(), tests, limits, strict=True):
        if passes:
            keeps = (test <= limit).double()[:, None]
            items = {name: keeps * each.arrays[name] for name in ("item_precision", "item_pull")}
            kept.append(Contribution({**each.arrays, **items, **_credible_rare(each.arrays)}))
    return _capped(kept)


def _too_many_raters(given: Sequence[Contribution]) -> Tensor:
    """Whether so many of a node's users rated an item that it is not by chance, bool [nodes, shared items].

    The share of a node's users is compared with p, the mean of the middle half of the nodes' shares. By Chernoff's
    bound a share x > p of n users has at most the probability exp(-n KL(x, p)).
    """
    users = torch.stack([each.arrays["users"][0] for each in given])[:, None]
    precision = torch.stack([each.arrays["precision"].sum() for each in given])[:, None]
    weights = torch.stack([each.arrays["item_precision"][:, 0] for each in given])
    # A rater weighs as much as the node's mean user.
    shares = (weights / precision).clamp(1e-12, 1 - 1e-12)
    end = len(given) // 4
    usual = shares.sort(dim=0).values[end : len(given) - end].mean(0)
    usual = (usual + 1 / users.sum()).clamp_max(1 - 1e-12)
    apart = shares * (shares / usual).log() + (1 - shares) * ((1 - shares) / (1 - usual)).log()
    return (shares > usual) & (users * apart > UNLIKELY)


def _credible_rare(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The node's sums over all items under the threshold together, 0 if they draw these beyond what is usual."""
    if PULL not in sums:
        return {}
    precision = sums[PRECISION]
    test = sums[PULL].square() / (precision + ITEM_BIAS_VARIANCE * precision.square()).clamp_min(1e-300)
    keeps = (test <= 1 + ITEM_DEVIATIONS * 2**0.5).double()
    return {name: keeps * sums[name] for name in (PRECISION, PULL)}


def _products_possible(sums: Mapping[str, Tensor]) -> bool:
    """Whether the last opening round's products are sums of squares; all others have none."""
    if "user_products" not in sums:
        return True
    return _sum_of_squares(sums["user_products"]) and _sum_of_squares(unpack(sums["products"], sums["sums"].shape[1]))


def _possible(sums: Mapping[str, Tensor]) -> bool:
    """Whether sums of squares and of products of vectors with themselves are what such sums can be."""
    positive = all(float(sums[name]) > 0 for name in ("users", "ratings", "precision", "squared_error"))
    matrices = [
        sums["user_moments"],
        sums["covariate_products"],
        unpack(sums["item_precision"], sums["item_pull"].shape[1]),
    ]
    return positive and all(map(_sum_of_squares, matrices))


def _sum_of_squares(matrices: Tensor) -> bool:
    """Whether matrices [..., size, size] are symmetric and have no eigenvalue below 0, up to rounding."""
    scale = 1e-9 * float(matrices.abs().max())
    if matrices.dim() == 3:
        # A small node has no raters of most items.
        matrices = matrices[matrices.flatten(1).any(1)]
        if not len(matrices):
            return True
    apart = float((matrices - matrices.mT).abs().max())
    return apart <= scale and float(torch.linalg.eigvalsh(matrices).min()) >= -scale


def _ratio(given: Sequence[Contribution], name: str, by: str) -> Tensor:
    """The sum, or the trace of a matrix, over another sum, [nodes]."""
    values = [each.arrays[name] for each in given]
    sums = [value.trace() if value.dim() == 2 else value.sum() for value in values]
    return torch.stack(sums) / torch.stack([each.arrays[by].sum() for each in given])


def _item_tests(
    given: Sequence[Contribution], many: Tensor, beliefs: Beliefs, design: Design, features: Tensor
) -> tuple[Tensor, Tensor]:
    """s' V^-1 s over its size, [nodes, shared items], and 1 where the node has raters of the item.

    many: where a node has too many raters of an item: it is tested, and says nothing of the others.
    """
    size = 1 + beliefs.rank
    prior = inverse(beliefs.item_spread)
    mean = features[design.shared_items] @ beliefs.item_weights @ prior
    precisions = torch.stack([each.arrays["item_precision"] for each in given])
    pulls = torch.stack([each.arrays["item_pull"] for each in given])
    # A small node sends zeros of most items, which need no test.
    sent = precisions.any(2) | pulls.any(2)
    speaks = (~many).double()[:, :, None]
    everybody, pull = (precisions * speaks).sum(0) + pack(prior), (pulls * speaks).sum(0) + mean
    tests = pulls.new_zeros(sent.shape)
    for node, rated in enumerate(sent):
        # The median of a few nodes' sums says little of sparse items; the sum of the others is what they know.
        own_part = speaks[node]
        others = (everybody - precisions[node] * own_part)[rated], (pull - pulls[node] * own_part)[rated]
        covariance = inverse(unpack(others[0], size))
        centre = (covariance @ others[1][:, :, None])[:, :, 0]
        own = unpack(precisions[node][rated], size)
        surprise = pulls[node][rated] - (own @ centre[:, :, None])[:, :, 0]
        spread = own + own @ covariance @ own
        # A few raters leave some directions of the vector untouched; these are not tested.
        ridge = 1e-6 * spread.diagonal(dim1=1, dim2=2).mean(1) + 1e-9
        spread.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
        solved = torch.linalg.solve(spread, surprise[:, :, None])[:, :, 0]
        tests[node, rated] = (solved * surprise).sum(1) / size
    return tests, (precisions[:, :, 0] > 0).double()


def _capped(given: Sequence[Contribution]) -> list[Contribution]:
    """The contributions, those of very large nodes as if they had fewer users."""
    if not given:
        return []
    users = torch.stack([each.arrays["users"][0] for each in given])
    factors = (LARGEST * users.median() / users).clamp_max(1).tolist()
    return [each if factor == 1 else each * factor for each, factor in zip(given, factors, strict=True)]
