"""What each message of a federation holds, and why: the table in docs/privacy.md, and what nodes check messages by.

A node refuses a request that holds anything else, and sends nothing else. Under secure sums the arrays of a sum are
never in a message by themselves: they are what the server learns as a total over nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from hierfed.deployment.plan import EASE, FEATURES, IMPLICIT, RATING
from hierfed.engines.exchange import Reply, Request
from hierfed.engines.secure_round import STEPS
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel

Purposes = Mapping[str, str]
"""Names, each with what it is for."""


@dataclass(frozen=True)
class Asked:
    """A request and its answer: the facts of each, with what they are for."""

    request: Purposes
    reply: Purposes = field(default_factory=dict)


@dataclass(frozen=True)
class Sums:
    """What nodes send to some rounds of a stage, in the clear or under masks; when: which rounds."""

    method: str
    stage: str
    when: str
    arrays: Purposes


@dataclass(frozen=True)
class Model:
    """What nodes receive of a stage: with each of its rounds, at its end, and as they come back."""

    method: str
    stage: str
    arrays: Purposes


_WHOSE = {"version": "of the protocol", "hierfed": "the release"}
_ROUND = {"training": "which one", "stage": "of the training", "round": "its number"}
_SECURE = {"message": "one of the secure sum's, see below"}
_DRAWN = {"drawn": "under secure sums: random bytes, so that no two sums are alike"}
_ENTRIES = {"entries": "the ledger's last ones"}
_SIGNED = {"countersignature": "of the ledger's last entry", "unsigned": "or why there is none"}
_REFUSED = {"refusal": "why the node takes no part"}

ASKED: Mapping[str, Asked] = {
    "hello": Asked(
        {
            **_WHOSE,
            "nonce": "to be signed",
            "sums": "open or secure",
            "scale": "the ratings that there can be, or that the server does not know",
            "ledger": "the server's key for its ledger",
            "catalogue": "public, the same for all",
        },
        {
            **_WHOSE,
            "nonce": "that was signed",
            "name": "of the node",
            "identity": "random, tells it from any other node",
            "key": "the node's public one",
            "ledger": "its public key for the ledger",
            "signature": "of nonce, name, identity and ledger",
            "low": "the node's lowest rating, only under open sums without data.scale",
            "high": "its highest, likewise",
            **_REFUSED,
        },
    ),
    "setup": Asked(
        {
            "training": "its name",
            "settings": "without where the server's data are",
            "limits": "the lowest and the highest rating that there can be",
            "keys": "public ones, of the nodes that add securely",
            "threshold": "how many of them a sum takes",
            "number": "the node's",
            "finished": "the stages that are over, whose models are beside it",
            "ledger": "all its lines so far",
        }
    ),
    "round": Asked(
        {**_ROUND, **_DRAWN, **_ENTRIES}, {**_ROUND, "number": "the node's", **_SECURE, **_REFUSED, **_SIGNED}
    ),
    **{step: Asked(_SECURE, {**_SECURE, **_REFUSED}) for step in STEPS},
    "finish": Asked({"stage": "that is over", "round": "its last", **_ENTRIES}, _SIGNED),
    "judge": Asked(_DRAWN, {**_SECURE, **_REFUSED}),
    "ledger": Asked(_ENTRIES, _SIGNED),
    "goodbye": Asked({"reason": "why a node cannot stay, where it is not over"}),
}

_RATERS_KNOWN = "how many users have rated each item; 0 for items under the threshold"
_OPENING = "how many of the users have rated each item, whatever the threshold: what it is applied to"

SUMS = (
    Sums(
        "averaging",
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
        "averaging",
        FEATURES,
        "round 1",
        {"rows": "ratings to learn from", "squares": "of the features, from their centre: their spread"},
    ),
    Sums(
        "averaging",
        FEATURES,
        "round 0, catalogue without features",
        {"counts": "ratings of each item, whatever the threshold: what it is applied to"},
    ),
    Sums(
        "averaging",
        FEATURES,
        "round 1, catalogue without features",
        {"ratings": "sums of the ratings of each item that has min_raters: they take the features' place"},
    ),
    Sums("averaging", RATING, "round 0", {"rows": "ratings to learn from", "ratings": "their sum: the output bias"}),
    Sums(
        "averaging",
        RATING,
        "from round 1",
        {
            "rows": "ratings to learn from, the weight of the node",
            "change": "of the network's parameters, times rows",
            "loss": "of each local epoch, times rows, for the report",
        },
    ),
    Sums(
        "hierarchical",
        RATING,
        "first opening round",
        {
            "raters": _OPENING,
            "moments": "number, sum and sum of squares of all ratings: the scale",
            "users": "how many",
        },
    ),
    Sums("hierarchical", RATING, "opening rounds", {"co_ratings": "of shared items, times vectors: the embedding"}),
    Sums(
        "hierarchical",
        RATING,
        "last opening round",
        {
            "products": "of users' implicit vectors, by shared item",
            "sums": "of users' implicit vectors, by shared item",
            "user_products": "over all users: the embedding is sharpened with these",
        },
    ),
    Sums(
        "hierarchical",
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
            "users": "how many",
            "ratings": "how many",
        },
    ),
    Sums("hierarchical", EASE, "round 0", {"raters": _OPENING}),
    Sums("hierarchical", EASE, "round 1", {"co_raters": "users who have rated both of two shared items"}),
    Sums("hierarchical", IMPLICIT, "round 0", {"raters": _OPENING, "users": "how many"}),
    Sums(
        "hierarchical",
        IMPLICIT,
        "from round 1",
        {
            "products": "of users' vectors, by shared item",
            "factors": "sums of users' vectors, by shared item",
            "all_products": "over all users: the items' next factors follow from these",
        },
    ),
    Sums("private_prior", RATING, "round 1", {"scales": "clipped, with noise: the prior's numbers", "nodes": "1"}),
    Sums("private_prior", RATING, "round 2", {"mean": "clipped, with noise: the prior's mean", "nodes": "1"}),
    Sums("private_prior", RATING, "round 3", {"biases": "clipped, with noise: items' biases", "nodes": "1"}),
)

JUDGED_SUMS: Purposes = {
    "learned": "ratings that were learned from, for the report",
    "rows": "held-out ratings",
    "squares_before": "squared errors of the shared model on them",
    "squares_after": "of the users' own models",
    "within": "held-out ratings within their 90% intervals",
    "intervals": "of so many that have one",
}

_BELIEFS = {
    "item_mean": "what is believed of the items: those under the threshold keep their prior",
    "item_covariance": "how sure",
    "item_weights": "the items' prior means",
    "item_spread": "their prior's spread",
    "covariate_weights": "the users' prior means",
    "user_spread": "their prior's spread",
    "node_variance": "how nodes differ",
    "precision": "of ratings",
}

MODELS = (
    Model(
        "averaging",
        FEATURES,
        {
            "centre": "of the features",
            "fill": "in the place of unknown numbers",
            "spread": "of the features",
            "counts": "catalogue without features: ratings of each item, 0 under the threshold",
            "ratings": "likewise: their sums, 0 under the threshold",
        },
    ),
    Model("averaging", RATING, {"parameters": "the network"}),
    Model(
        "hierarchical",
        RATING,
        {
            "raters": f"{_RATERS_KNOWN}: which items are summed, how popular they are (a feature), and how noisy",
            "users": "how many there are",
            "scale": "mean and unit of ratings",
            "basis": "opening rounds: vectors that become the embedding",
            "embedding": "of items by what was rated together",
            **_BELIEFS,
        },
    ),
    Model("hierarchical", EASE, {"raters": _RATERS_KNOWN, "weights": "between shared items"}),
    Model(
        "hierarchical",
        IMPLICIT,
        {"raters": _RATERS_KNOWN, "users": "how many there are", "factors": "of shared items"},
    ),
    Model(
        "private_prior",
        RATING,
        {
            "scales": "the prior's numbers",
            "mean_weights": "its mean",
            "item_bias": "items' biases",
            "item_doubt": "how unsure they are",
        },
    ),
)


def check_request(request: Request, method: str) -> None:
    """Raise HierfedError for a request that holds more than is declared; method: of the plan, "" before there is one.

    The models in a setup are checked by check_models, once the plan has been read.
    """
    known = ASKED.get(request.kind)
    if known is None:
        raise HierfedError(f"the server asks for '{request.kind}', which no node answers")
    _check(f"the server's '{request.kind}'", request.facts, known.request)
    if request.kind in ("round", "finish"):
        if method:
            check_models(method, {str(request.facts.get("stage")): SharedModel(request.arrays)})
    elif request.kind != "setup":
        _check(f"the server's '{request.kind}'", request.arrays, ())


def check_models(method: str, models: Mapping[str, SharedModel]) -> None:
    """Raise HierfedError for shared models, by stage, of which a node needs less."""
    for stage, shared in models.items():
        names = [name for each in MODELS if (each.method, each.stage) == (method, stage) for name in each.arrays]
        _check(f"the server's model of stage '{stage}'", shared.arrays, names)


def check_sum(method: str, stage: str, sent: Contribution) -> None:
    """Raise HierfedError for a contribution to a round that holds more than is declared for any one round."""
    declared = [each.arrays for each in SUMS if (each.method, each.stage) == (method, stage)]
    if not any(sent.arrays.keys() <= names.keys() for names in declared):
        raise HierfedError(
            f"a contribution to stage '{stage}' holds {', '.join(sent.arrays)}: not declared, so not sent"
        )


def check_reply(request: Request, reply: Reply) -> None:
    """Raise HierfedError for an answer that holds more than is declared; sums of rounds: see check_sum."""
    _check(f"the answer to '{request.kind}'", reply.facts, ASKED[request.kind].reply)
    if request.kind != "round":
        _check(
            f"the answer to '{request.kind}'", reply.contribution.arrays, JUDGED_SUMS if request.kind == "judge" else ()
        )


def table() -> str:
    """All of it as a table in Markdown."""
    rows = ["| message | stage | from, to | holds |", "|---|---|---|---|"]
    for kind, each in _together():
        rows.append(_row(kind, "", "server to node", each.request))
        rows.append(_row(kind, "", "node to server", each.reply))
    rows += [_row("`round`", f"{_stage(each)}, {each.when}", "node to server: a sum", each.arrays) for each in SUMS]
    rows.append(_row("`judge`", "networks, hierarchical", "node to server: a sum", JUDGED_SUMS))
    rows += [_row("`round`, `finish`, `setup`", _stage(each), "server to node", each.arrays) for each in MODELS]
    return "\n".join(rows) + "\n"


def _together() -> Iterator[tuple[str, Asked]]:
    """The kinds of request, those of a secure sum's steps as one."""
    for kind, asked in ASKED.items():
        if kind == STEPS[0]:
            yield ", ".join(f"`{step}`" for step in STEPS), asked
        elif kind not in STEPS:
            yield f"`{kind}`", asked


def _row(kind: str, stage: str, way: str, holds: Purposes) -> str:
    told = "; ".join(f"`{name}`: {purpose}" for name, purpose in holds.items()) or "nothing"
    return f"| {kind} | {stage} | {way} | {told} |"


def _stage(of: Sums | Model) -> str:
    return f"{of.method}: {of.stage}"


def _check(whose: str, found: Collection[str], declared: Collection[str]) -> None:
    more = [name for name in found if name not in declared]
    if more:
        raise HierfedError(
            f"{whose} holds what no message of its kind holds: {', '.join(repr(name[:40]) for name in more)}"
        )
