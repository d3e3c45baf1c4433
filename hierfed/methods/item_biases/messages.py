"""The arrays that nodes of this method send and receive, with their purposes."""

from __future__ import annotations

from hierfed.methods.messages import RATING, Model, Sums

SUMS = (
    Sums(
        RATING,
        "round 0",
        {
            "raters": "how many of the users have rated each item, whatever the threshold: what it is applied to",
            "ratings": "their sum: the mean",
            "rows": "ratings to learn from",
        },
    ),
    Sums(RATING, "round 1", {"deviations": "from the mean, summed over the ratings of each summed item"}),
)

MODELS = (
    Model(
        RATING,
        {
            "mean": "of all ratings",
            "summed": "whether an item is summed: it has enough raters",
            "bias": "of each item, from a rounded mean and a class of raters; 0 under the threshold",
        },
    ),
)
