"""The words of reports for federated averaging."""

from __future__ import annotations

from hierfed.results import MethodWords

WORDS = MethodWords(
    lead="$nodes trained one model in $rounds without pooling their ratings; $personal_nodes made it their own",
    lead_names_judged=True,
    first="shared",
    loss="Mean squared error on training rows, averaged over nodes",
    loss_by_epoch=True,
    captions={
        "training_loss": "Mean squared error on the training rows, averaged over nodes, in every local epoch; one "
        "round is several epochs. It shows that training converged, not that the model is good.",
    },
)
