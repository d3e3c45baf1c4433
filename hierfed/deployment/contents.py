"""The content of each message of a federation, and its purpose.

It makes the table in docs/privacy.md, and nodes check messages by it. A node refuses a request that holds anything
else, and sends nothing else. Under secure sums no message holds the arrays of a sum: the server learns only their total
over nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from hierfed.engines.exchange import Reply, Request
from hierfed.engines.going_on import OPENING
from hierfed.engines.secure_round import STEPS
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.stage import RATING
from hierfed.methods import METHODS
from hierfed.methods.messages import Purposes


@dataclass(frozen=True)
class Asked:
    """A request and its answer: the facts of each, with their purposes."""

    request: Purposes
    reply: Purposes = field(default_factory=dict)


_WHOSE = {"version": "of the protocol", "hierfed": "the release"}
_ROUND = {"training": "which one", "stage": "of the training", "round": "its number"}
_SECURE = {"message": "one of the secure sum's, see below"}
_DRAWN = {"drawn": "under secure sums: random bytes, so that no two sums are alike"}
_HALVING = {"halving": "under privacy.halves, in a search: which of the plan's halvings the round is added by"}
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
            "tag": "a random name of its ratings, another one when they change",
            "signature": "of nonce, name, identity, ledger and tag",
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
            "nodes": "how many have agreed",
            "update": "the round and sha256 of the model that the training goes on from, for how many rounds, and "
            "whether it keeps the embedding",
            "finished": "the stages that are over, whose models are beside it",
            "ledger": "all its lines so far",
        }
    ),
    "round": Asked(
        {**_ROUND, **_DRAWN, **_HALVING, **_ENTRIES},
        {**_ROUND, "number": "the node's", **_SECURE, **_REFUSED, **_SIGNED},
    ),
    **{step: Asked(_SECURE, {**_SECURE, **_REFUSED}) for step in STEPS},
    "finish": Asked({"stage": "that is over", "round": "its last", **_ENTRIES}, _SIGNED),
    "judge": Asked(_DRAWN, {**_SECURE, **_REFUSED}),
    "ledger": Asked(_ENTRIES, _SIGNED),
    "goodbye": Asked({"reason": "why a node cannot stay, where it is not over"}),
}

_SIGNED_BY = {
    "countersignatures": "of the ledger's last entry, by its nodes",
    "unsigned_by": "or why nodes made none",
}

EDGE_ASKED: Mapping[str, Asked] = {
    "hello": Asked(
        ASKED["hello"].request,
        {
            **_WHOSE,
            "nonce": "that was signed",
            "name": "of the edge",
            "identity": "random, tells it from any other edge",
            "key": "the edge's public one",
            "group": "of each of its nodes: name, identity, keys, tag, lowest and highest rating, as in `hello`",
            "signature": "of nonce, name, identity and group",
            **_REFUSED,
        },
    ),
    "setup": Asked({**ASKED["setup"].request, "numbers": "those of its nodes"}),
    "round": Asked(
        {**_ROUND, **_ENTRIES},
        {
            **_ROUND,
            "contributors": "the numbers of the nodes in the sum",
            "left_out": "those of others, with the reasons",
            **_REFUSED,
            **_SIGNED_BY,
        },
    ),
    "finish": Asked(ASKED["finish"].request, _SIGNED_BY),
    "judge": Asked({}, _REFUSED),
    "ledger": Asked(_ENTRIES, _SIGNED_BY),
    "goodbye": ASKED["goodbye"],
}
"""What a server asks of an edge. An edge asks its nodes as a server does."""

# Facts of requests that are no texts, and those that not every request of their kind has.
_WHOLE_NUMBERS = {"round", "halving", "threshold", "number", "nodes"}
_BYTES = {"drawn", "message", "entries", "ledger", "numbers"}
_OPTIONAL = {"drawn", "halving", "entries", "ledger", "reason"}

JUDGED_SUMS: Purposes = {
    "learned": "ratings that were learned from, for the report",
    "rows": "held-out ratings",
    "squares_before": "squared errors of the shared model on them",
    "squares_after": "of the users' own models",
    "within": "held-out ratings within their 90% intervals",
    "intervals": "of so many that have one",
}


def check_request(request: Request, method: str, asked: Mapping[str, Asked] = ASKED) -> None:
    """Raise HierfedError for a request that holds more than is declared.

    method: of the plan; "" before there is one. asked: what is declared.
    check_models checks the models in a setup, once the plan has been read.
    """
    known = asked.get(request.kind)
    if known is None:
        raise HierfedError(f"the server asks for '{request.kind}', which no node answers")
    _check(f"the server's '{request.kind}'", request.facts, known.request)
    if request.kind in ("round", "finish"):
        if method:
            check_models(method, {str(request.facts.get("stage")): SharedModel(request.arrays)})
    elif request.kind != "setup":
        _check(f"the server's '{request.kind}'", request.arrays, ())
    if request.kind != "hello":  # It may be of another version, which is told first.
        _check_types(request, known.request)


def check_models(method: str, models: Mapping[str, SharedModel]) -> None:
    """Raise HierfedError for shared models, by stage, that hold more arrays than are declared."""
    for stage, shared in models.items():
        names = [name for each in METHODS[method].models if each.stage == _of(stage) for name in each.arrays]
        _check(f"the server's model of stage '{stage}'", shared.arrays, names)


def check_sum(method: str, stage: str, sent: Contribution) -> None:
    """Raise HierfedError for a contribution to a round that holds more than is declared for any one round."""
    declared = [each.arrays for each in METHODS[method].sums if each.stage == _of(stage)]
    if not any(sent.arrays.keys() <= names.keys() for names in declared):
        raise HierfedError(
            f"a contribution to stage '{stage}' holds {', '.join(sent.arrays)}: not declared, so not sent"
        )


def _of(stage: str) -> str:
    """The stage that is declared: the opening rounds of a training that goes on are those of the model of ratings."""
    return RATING if stage == OPENING else stage


def check_reply(request: Request, reply: Reply, asked: Mapping[str, Asked] = ASKED) -> None:
    """Raise HierfedError for an answer that holds more than is declared; check_sum checks sums of rounds."""
    _check(f"the answer to '{request.kind}'", reply.facts, asked[request.kind].reply)
    if request.kind != "round":
        _check(
            f"the answer to '{request.kind}'", reply.contribution.arrays, JUDGED_SUMS if request.kind == "judge" else ()
        )


def table() -> str:
    """The content of all messages as a table in Markdown."""
    rows = ["| message | stage | from, to | holds |", "|---|---|---|---|"]
    for kind, each in _together():
        rows.append(_row(kind, "", "server to node", each.request))
        rows.append(_row(kind, "", "node to server", each.reply))
    for kind, each in EDGE_ASKED.items():
        rows.append(_row(f"`{kind}`", "", "server to edge", each.request))
        rows.append(_row(f"`{kind}`", "", "edge to server", each.reply))
    rows.append(_row("`round`", "", "edge to server: a sum", {"arrays": "those of its nodes' sums, added exactly"}))
    for name, method in METHODS.items():
        for sent in method.sums:
            rows.append(_row("`round`", f"{name}: {sent.stage}, {sent.when}", "node to server: a sum", sent.arrays))
    rows.append(_row("`judge`", "without differential privacy", "node to server: a sum", JUDGED_SUMS))
    for name, method in METHODS.items():
        for model in method.models:
            rows.append(_row("`round`, `finish`, `setup`", f"{name}: {model.stage}", "server to node", model.arrays))
    return "\n".join(rows) + "\n"


def _together() -> Iterator[tuple[str, Asked]]:
    """The kinds of request, with the steps of a secure sum as one kind."""
    for kind, asked in ASKED.items():
        if kind == STEPS[0]:
            yield ", ".join(f"`{step}`" for step in STEPS), asked
        elif kind not in STEPS:
            yield f"`{kind}`", asked


def _row(kind: str, stage: str, way: str, holds: Purposes) -> str:
    cell = "; ".join(f"`{name}`: {purpose}" for name, purpose in holds.items()) or "nothing"
    return f"| {kind} | {stage} | {way} | {cell} |"


def _check_types(request: Request, declared: Collection[str]) -> None:
    """Raise HierfedError for a request that lacks a fact, or has one of another type."""
    for name in declared:
        kind = int if name in _WHOLE_NUMBERS else bytes if name in _BYTES else str
        if name in request.facts or name not in _OPTIONAL:
            value = request.facts.get(name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise HierfedError(
                    f"the server's '{request.kind}' cannot be read: its '{name}' is missing or malformed"
                )


def _check(whose: str, found: Collection[str], declared: Collection[str]) -> None:
    more = [name for name in found if name not in declared]
    if more:
        raise HierfedError(
            f"{whose} holds what no message of its kind holds: {', '.join(repr(name[:40]) for name in more)}"
        )
