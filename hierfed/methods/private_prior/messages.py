"""The arrays that nodes of this method send and receive, with their purposes."""

from __future__ import annotations

from hierfed.methods.messages import RATING, Model, Sums

SUMS = (
    Sums(RATING, "round 1", {"scales": "clipped, with noise: the prior's numbers", "nodes": "1"}),
    Sums(RATING, "round 2", {"mean": "clipped, with noise: the prior's mean", "nodes": "1"}),
    Sums(RATING, "round 3", {"biases": "clipped, with noise: items' biases", "nodes": "1"}),
)

MODELS = (
    Model(
        RATING,
        {
            "scales": "the prior's numbers",
            "mean_weights": "its mean",
            "item_bias": "items' biases",
            "item_doubt": "how unsure they are",
        },
    ),
)
