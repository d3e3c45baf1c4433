"""Graphs of peers: the neighbours to which each sends in an exchange. Free of networkx until one is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DEGREE = 4
"""The neighbours of a peer in a random regular graph."""

Neighbours = Callable[[int], list[list[int]]]
"""Gives the peers to which each peer sends in an exchange, numbered from 0."""

Graph = Callable[[int, int], Neighbours]
"""Gives the neighbours among so many peers, from a seed."""


def exponential(peers: int, seed: int) -> Neighbours:
    """Each peer sends to one, 1, 2, 4, ... places further, in turn: exact after log2 n exchanges of n = 2^k peers.

    Source: Ying et al., Exponential Graph is Provably Efficient for Decentralized Deep Training, NeurIPS 2021.
    """
    turns = max((peers - 1).bit_length(), 1)
    return lambda exchange: [[(peer + 2 ** (exchange % turns)) % peers] for peer in range(peers)]


def ring(peers: int, seed: int) -> Neighbours:
    """Each peer sends to the two beside it."""
    import networkx  # noqa: PLC0415 - other graphs need it not

    return _always(networkx.cycle_graph(peers))


def random_regular(peers: int, seed: int) -> Neighbours:
    """Each peer sends to the same DEGREE peers, drawn once; of few peers, to all.

    Of those drawn, the first graph in which all peers reach each other is taken.
    """
    import networkx  # noqa: PLC0415 - other graphs need it not

    if peers <= DEGREE + 1:
        return complete(peers, seed)
    drawn = (networkx.random_regular_graph(DEGREE, peers, seed=(seed << 16) + attempt) for attempt in range(1 << 16))
    return _always(next(graph for graph in drawn if networkx.is_connected(graph)))


def complete(peers: int, seed: int) -> Neighbours:
    """Each peer sends to all others: exact after one exchange."""
    import networkx  # noqa: PLC0415 - other graphs need it not

    return _always(networkx.complete_graph(peers))


def _always(graph: Any) -> Neighbours:
    fixed = [sorted(graph[peer]) for peer in range(len(graph))]
    return lambda exchange: fixed
