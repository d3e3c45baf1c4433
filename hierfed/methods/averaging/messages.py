"""The arrays that nodes of this method send and receive, with their purposes."""

from __future__ import annotations

from hierfed.methods.messages import FEATURES, RATING, Model, Sums

SUMS = (
    Sums(
        FEATURES,
        "round 0",
        {
            "rows": "ratings to learn from",
            "sums": "over ratings, of each public feature of the rated items: the features' centre",
            "groups": "ratings by groups of 5 or more items with like runtime or vote average: medians, where items "
            "lack these",
        },
    ),
    Sums(
        FEATURES,
        "round 1",
        {"rows": "ratings to learn from", "squares": "of the features, from their centre: their spread"},
    ),
    Sums(
        FEATURES,
        "round 0, catalogue without features",
        {"counts": "ratings of each item, whatever the threshold: what it is applied to"},
    ),
    Sums(
        FEATURES,
        "round 1, catalogue without features",
        {"ratings": "sums of the ratings of each item that has min_raters: they take the features' place"},
    ),
    Sums(
        RATING,
        "round 0",
        {
            "rows": "ratings to learn from",
            "ratings": "their sum: the output bias",
            "raters": "item vectors: of each item, whatever the threshold: what it is applied to",
        },
    ),
    Sums(
        RATING,
        "from round 1",
        {
            "rows": "ratings to learn from, the weight of the node",
            "change": "of the network's parameters, times rows; without those that the node keeps",
            "loss": "of each local epoch, times rows, for the report",
            "steps": "FedNova: local ones, times rows",
            "control": "SCAFFOLD: the change of the node's control variate, times rows",
            "weights": "experts: of the node's change of each",
            "asked": "experts: 1 for those that the node asks for, 0 for others",
            "item_change": "item vectors: of each item's that has min_raters, times the node's ratings of it",
            "item_rows": "item vectors: the node's ratings of each item that has min_raters",
        },
    ),
)

MODELS = (
    Model(
        FEATURES,
        {
            "centre": "of the features",
            "fill": "in the place of unknown numbers",
            "spread": "of the features",
            "counts": "catalogue without features: the class of each item's number of ratings, 0 under the threshold",
            "means": "likewise: their means, rounded, 0 under the threshold",
        },
    ),
    Model(
        RATING,
        {
            "parameters": "the network",
            "control": "SCAFFOLD: the mean control variate",
            "asked": "experts: how many nodes asked for each in the last round",
            "share": "experts: of each in all weights of the last round",
            "item_vectors": "of each item, 0 under the threshold",
            "raters": "item vectors: the class of how many have rated each item, 0 under the threshold",
        },
    ),
)
