"""Checks of the hierarchical model's sums, and of other sums over users' vectors; see hierfed.federated.checks.

They bound what each user and each rating can do to the model: moments of users' deviations by the numbers of users and
ratings, an item's pull by its precision, and both by the ratings' scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from hierfed.federated.checks import Check, Sent, between, counts, not_negative, semidefinite, with_uncounted, within
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.embedding import REGULARISATION
from hierfed.methods.hierarchical.rare_items import OFFSET
from hierfed.models.symmetric import unpack

# Matrices that are checked at once.
AT_ONCE = 4096
# No prediction is further off the scale of ratings than so many times its length.
MOST_RANGES = 4.0
# The most that each rating adds to its user's squared deviation, in units of the prior's variance: a residual of ten
# standard deviations.
DEVIATION_OF_A_RATING = 100.0


def opening_checks(limits: tuple[float, float]) -> Sequence[Check]:
    """Of raters, users and the moments of ratings.

    limits: the lowest and the highest possible rating.
    """
    low, high = limits
    squares = sorted((low * low, high * high))
    least = 0.0 if low <= 0 <= high else squares[0]

    def moments(sent: Sent, lowest: float, square: float) -> Tensor:
        number = sent["raters"].sum()
        return torch.stack([number, lowest * number, square * number])

    def matrix(sent: Sent) -> Iterator[Tensor]:
        number, total, square = sent["moments"]
        yield torch.stack([number, total, total, square]).view(2, 2)

    return (
        counts("raters", "users"),
        within("raters", lambda sent: sent["users"]),
        between(
            "moments",
            lambda sent: moments(sent, low, least),
            lambda sent: moments(sent, high, squares[1]),
            squares[1] + high,
        ),
        semidefinite("moments", matrix, 1 + squares[1]),
    )


def co_rating_checks(raters: Tensor, users: Tensor, scaled: Tensor) -> Sequence[Check]:
    """Of products with the co-rating matrix, sum x x' / n: each rater of an item adds a mean of the basis.

    raters: of shared items. users: at all nodes that were counted.
    scaled: the basis by which the users multiply, of shared items, [shared items, columns].
    """
    most = with_uncounted(raters, users)[:, None] * scaled.abs().amax(0)
    products = semidefinite(
        "co_ratings", lambda sent: [scaled.T @ sent["co_ratings"]], float(scaled.abs().sum(0).max())
    )
    return within("co_ratings", lambda _: most), products


def vector_checks(names: tuple[str, str, str], raters: Tensor, users: Tensor, most: float) -> Sequence[Check]:
    """Of sums over users' vectors x: of x x' packed and x by item, and of x x' over all users.

    names: of these arrays.
    raters: of the items, at all nodes that were counted.
    users: at these nodes.
    most: the largest square of a vector.
    """
    raters, users = with_uncounted(raters, users), with_uncounted(users, users)
    products, vectors, everyone = names

    def of_items(sent: Sent) -> Iterator[Tensor]:
        size = sent[vectors].shape[1]
        for some in _with_numbers(sent[products], sent[vectors]):
            block = raters.new_empty(len(some), 1 + size, 1 + size)
            block[:, 0, 0] = raters[some]
            block[:, 0, 1:] = block[:, 1:, 0] = sent[vectors][some]
            block[:, 1:, 1:] = unpack(sent[products][some], size)
            yield block

    return (
        semidefinite(everyone, lambda sent: [sent[everyone]]),
        within(everyone, lambda _: most * users.expand(1, 1), most),
        within(products, lambda _: most * raters[:, None], most),
        semidefinite(f"{products} and {vectors}", of_items, packed=True),
    )


def implicit_checks(raters: Tensor, users: Tensor) -> Sequence[Check]:
    """Of the last opening round. A user's vector x minimises sum (1 - x . y_i)^2 + w |x|^2 + ..., so w |x|^2 <= n."""
    return vector_checks(("products", "sums", "user_products"), raters, users, 1 / REGULARISATION)


def round_checks(
    arrays: Mapping[str, Tensor], design: Design, limits: tuple[float, float], strength: float
) -> Sequence[Check]:
    """Of the sums over users' posteriors.

    arrays: of the shared model.
    strength: a0, of the prior of users' precisions.
    """
    beliefs, everyone = Beliefs.of(arrays), with_uncounted(arrays["users"], arrays["users"])
    unit, size = arrays["scale"][1], 1 + beliefs.rank
    scale = unit.square()
    spread, weights = beliefs.user_spread, beliefs.covariate_weights
    whitening = torch.linalg.inv(spread)
    items, raters = float(len(design.raters)), with_uncounted(design.raters[design.shared_items], arrays["users"])
    residual = (MOST_RANGES * (limits[1] - limits[0]) / unit).square().clamp_min(1.0)
    largest_precision = beliefs.precision * (1 + items / (2 * strength))

    def budget(sent: Sent) -> Tensor:
        """The largest sum over users of deviation' spread^-1 deviation."""
        return len(spread) * sent["users"] + DEVIATION_OF_A_RATING * sent["ratings"]

    def users_block(sent: Sent) -> Iterator[Tensor]:
        products = sent["covariate_products"]
        cross = sent["covariate_targets"] - products @ weights
        yield torch.cat([torch.cat([products, cross], 1), torch.cat([cross.T, sent["user_moments"]], 1)])

    def items_block(sent: Sent) -> Iterator[Tensor]:
        for some in _with_numbers(sent["item_precision"], sent["item_pull"]):
            precision, pull = unpack(sent["item_precision"][some], size), sent["item_pull"][some]
            block = precision.new_empty(len(precision), 1 + size, 1 + size)
            block[:, 0, 0] = residual * precision[:, 0, 0]
            block[:, 0, 1:] = block[:, 1:, 0] = pull
            block[:, 1:, 1:] = precision
            yield block

    def first_entries(sent: Sent) -> str:
        """The precision of an item's bias is that of its raters, and the first covariate is 1."""
        slack = 1e-6 * (1 + sent["users"]) + 2 * sent.error
        first = sent["item_precision"][:, 0]
        beyond = (first > torch.minimum(sent["precision"] * (1 + 1e-6), largest_precision * raters) + slack).any()
        if beyond or ((sent["covariate_products"][0, 0] - sent["users"]).abs() > slack).any():
            return "item_precision and covariate_products are of more users than there are"
        return ""

    def rare(sent: Sent, sign: float) -> Tensor:
        """Bounds of the pull of all items under the threshold, by its precision."""
        return sign * residual.sqrt() * sent["rare_precision"]

    of_rare: tuple[Check, ...] = ()
    if OFFSET in arrays:
        of_rare = (
            within("rare_precision", lambda sent: largest_precision * sent["ratings"], items),
            between("rare_pull", lambda sent: rare(sent, -1.0), lambda sent: rare(sent, 1.0), float(residual)),
        )

    def deviations(sent: Sent) -> str:
        """Users' deviations are no more than their numbers and their ratings allow."""
        found = (whitening * sent["user_moments"]).sum()
        slack = whitening.abs().sum() * sent.error
        return "user_moments are beyond what ratings can give" if found > budget(sent) * (1 + 1e-6) + slack else ""

    def node_moments(sent: Sent, sign: float) -> Tensor:
        """Bounds of the rows: once, squares, inverse_users, nodes, squares_by_users, by_users."""
        most = 4 * (torch.diagonal(spread) + beliefs.node_variance) * budget(sent)
        nodes, users = sent["node_moments"][3].clamp_min(0), sent["users"]
        if sign < 0:
            nothing = torch.zeros_like(most)
            return torch.stack([-(nodes * most).sqrt(), nothing, nothing, nodes, nothing, -(users * most).sqrt()])
        return torch.stack([(nodes * most).sqrt(), most, nodes, nodes, most, (users * most).sqrt()])

    return (
        counts("users", "ratings"),
        within("users", lambda _: everyone),
        within("ratings", lambda sent: items * sent["users"], items),
        within("users", lambda sent: sent["ratings"], 1.0),
        not_negative("precision", "squared_error"),
        within("precision", lambda sent: beliefs.precision * (sent["users"] + sent["ratings"] / (2 * strength)), items),
        within("squared_error", lambda sent: residual * sent["ratings"], float(residual)),
        between(
            "loss",
            lambda sent: scale * sent["squared_error"],
            lambda sent: scale * sent["squared_error"],
            float(scale),
        ),
        first_entries,
        semidefinite("item_precision and item_pull", items_block, 1 + float(residual), packed=True),
        semidefinite("user_moments and covariates", users_block, 1 + float(weights.abs().sum())),
        deviations,
        within("item_precision", lambda sent: largest_precision * _largest(sent, design, beliefs, budget(sent)), items),
        between("node_moments", lambda sent: node_moments(sent, -1.0), lambda sent: node_moments(sent, 1.0), items),
        *of_rare,
    )


def _with_numbers(products: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
    """The rows, some at a time, of items that a node sends anything of; zeros are sums of nothing."""
    return torch.split((products.any(1) | vectors.any(1)).nonzero()[:, 0], AT_ONCE)


def _largest(sent: Sent, design: Design, beliefs: Beliefs, budget: Tensor) -> Tensor:
    """A bound of the sum over users of the largest square of (1, p_u)."""
    covariates = torch.cat([design.covariates.abs().amax(0), 3 * (beliefs.item_mean[:, 1:].abs().amax(0) * 2)])
    prior = beliefs.covariate_weights[0].abs() + covariates @ beliefs.covariate_weights[1:].abs()
    variance = (torch.diagonal(beliefs.user_spread) + beliefs.node_variance).max()
    return sent["users"] * (1 + prior.max()).square() * 4 + 4 * variance * budget
