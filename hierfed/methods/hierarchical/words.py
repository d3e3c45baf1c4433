"""The words of reports for the hierarchical model."""

from __future__ import annotations

from hierfed.results import MethodWords

WORDS = MethodWords(
    alone="Each user alone (local)",
    alone_short="each user alone",
    names_alone=True,
    lead="$nodes learned one hierarchical model in $rounds by sending sums, and every user made it their own",
    loss="Expected squared error on training rows of all nodes",
    captions={
        "training_loss": "Expected squared error on the training rows, over all nodes, after every round. It shows "
        "that training converged, not that the model is good.",
    },
)
