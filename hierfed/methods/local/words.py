"""The words of reports for users who learn alone."""

from __future__ import annotations

from hierfed.results import MethodWords

WORDS = MethodWords(
    shared="Public votes alone",
    personal="Each user alone (local)",
    shared_short="Public votes alone",
    personal_short="Each user alone (local)",
    mark="user alone",
    own="each user alone (local)",
    alone="Each user alone (local)",
    alone_short="each user alone",
    lead="every user learned alone, from public features and own ratings, and nothing was sent",
    captions={
        "node_rmse": "Each row is a node: from the open circle (public votes alone) to the filled mark (its users, "
        "each alone with own ratings), on held-out rows. To the left is better.",
    },
)
