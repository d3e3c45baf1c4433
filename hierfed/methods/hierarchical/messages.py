"""The arrays that nodes of this method send and receive, with their purposes."""

from __future__ import annotations

from hierfed.methods.messages import EASE, IMPLICIT, RATING, Model, Sums

_RATERS_KNOWN = "the class of how many users have rated each item; 0 for items under the threshold"
_OPENING = "how many of the users have rated each item, whatever the threshold: what it is applied to"

_BELIEFS = {
    "item_mean": "what is believed of the items: those under the threshold keep their prior",
    "item_covariance": "how sure, as if each item had the raters of its class's upper edge",
    "item_weights": "the items' prior means",
    "item_spread": "their prior's spread",
    "covariate_weights": "the users' prior means",
    "user_spread": "their prior's spread",
    "node_variance": "how nodes differ",
    "precision": "of ratings",
}

SUMS = (
    Sums(
        RATING,
        "first opening round",
        {
            "raters": _OPENING,
            "moments": "number, sum and sum of squares of all ratings: the scale",
            "users": "how many",
        },
    ),
    Sums(RATING, "opening rounds", {"co_ratings": "of shared items, times vectors: the embedding"}),
    Sums(
        RATING,
        "last opening round",
        {
            "products": "of users' implicit vectors, by shared item",
            "sums": "of users' implicit vectors, by shared item",
            "user_products": "over all users: the embedding is sharpened with these",
        },
    ),
    Sums(
        RATING,
        "from round 1",
        {
            "item_precision": "what users know of each shared item",
            "item_pull": "where it draws the item",
            "covariate_products": "over all users: users' prior means",
            "covariate_targets": "likewise",
            "user_moments": "of users' deviations: their prior's spread",
            "node_moments": "of the node's mean deviation: whether nodes differ",
            "precision": "of all users: their noise",
            "squared_error": "likewise",
            "loss": "for the report",
            "rare_precision": "over ratings of items under the threshold, if that many of the node's users gave any",
            "rare_pull": "likewise: whether they are worse than their content says",
            "users": "how many",
            "ratings": "how many",
        },
    ),
    Sums(EASE, "round 0", {"raters": _OPENING}),
    Sums(EASE, "round 1", {"co_raters": "users who have rated both of two shared items"}),
    Sums(IMPLICIT, "round 0", {"raters": _OPENING, "users": "how many"}),
    Sums(
        IMPLICIT,
        "from round 1",
        {
            "products": "of users' vectors, by shared item",
            "factors": "sums of users' vectors, by shared item",
            "all_products": "over all users: the items' next factors follow from these",
        },
    ),
)

MODELS = (
    Model(
        RATING,
        {
            "raters": f"{_RATERS_KNOWN}: which items are summed, how popular they are (a feature), and how noisy",
            "users": "how many there are",
            "scale": "mean and unit of ratings",
            "basis": "opening rounds: vectors that become the embedding",
            "embedding": "of items by what was rated together",
            "rare_offset": "how much worse, or better, items under the threshold are together",
            **_BELIEFS,
        },
    ),
    Model(
        EASE,
        {
            "raters": _RATERS_KNOWN,
            "popularity": "the same in the items' order by the exact numbers, evenly spread over each class",
            "weights": "between shared items, by classes of raters, and rounded",
        },
    ),
    Model(
        IMPLICIT,
        {"raters": _RATERS_KNOWN, "users": "how many there are", "factors": "of shared items"},
    ),
)
