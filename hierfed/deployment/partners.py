"""The nodes that a node adds with securely: their keys, as somebody named them to it, or as it knew them first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hierfed.deployment.signing import PublicKey, fingerprint
from hierfed.deployment.state import PINNED, NodeState
from hierfed.errors import HierfedError


def check_partners(
    keys: Sequence[str],
    number: int,
    own: str,
    named: frozenset[str],
    state: NodeState,
    tell: Callable[[str], None],
) -> None:
    """Raise HierfedError for a server's list of nodes that this node does not add with.

    keys: the public keys of all nodes, in their numbers' order, of which `own` has to be that of `number`.
    named: the keys of the only nodes that it adds with; empty where nobody named any: then the keys are known from
    their first use on, and told aloud.
    """
    if len(set(keys)) < len(keys) or number >= len(keys) or keys[number] != own:
        raise HierfedError("the server's list of nodes that add securely has a key twice, or this node's not")
    others = set(keys) - {own}
    if not all(PublicKey(key).known for key in others):
        raise HierfedError("the server's list of nodes that add securely has a text that is no key")
    if named and others - named:
        raise HierfedError(f"the server's list of nodes has a key that no --peer names: {min(others - named)}")
    if not named:
        _pin(others, state, tell)


def _pin(others: set[str], state: NodeState, tell: Callable[[str], None]) -> None:
    """Know the other nodes' keys from their first use on; raises HierfedError for new ones later."""
    known = state.record(PINNED).get("keys")
    if known is None:
        prints = ", ".join(sorted(fingerprint(key) for key in others))
        tell(
            f"adds securely with {len(others)} nodes whose keys it takes from the server: {prints}; a server that "
            "invented them would see this node's part: compare them with their owners, or name them by --peer"
        )
        state.keep_record(PINNED, {"keys": sorted(others)})
    elif others - set(known):
        raise HierfedError(
            f"the server's list of nodes has a key that this node has not added with before: "
            f"{min(others - set(known))}; where its owner confirms it, name all by --peer, or delete "
            f"{state.folder / PINNED}"
        )
