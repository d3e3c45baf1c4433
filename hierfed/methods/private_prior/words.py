"""The words of reports for the private prior."""

from __future__ import annotations

from hierfed.results import MethodWords

WORDS = MethodWords(
    shared="Private prior alone",
    personal="Private prior, own ratings",
    shared_short="Private prior alone",
    personal_short="Private prior, own ratings",
    mark="users' own models",
    alone="Each user alone (local)",
    alone_short="each user alone",
    lead="$nodes learned a prior in $rounds with differential privacy for whole users, and every user's own model "
    "began from it",
)
