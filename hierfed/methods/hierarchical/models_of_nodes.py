"""The models of nodes and their users, made at the end of a training: in memory, on demand, or block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hierfed.data.federation import Node, Nodes, row_counts
from hierfed.data.ratings import Ratings, concatenated
from hierfed.federated.contract import SharedModel
from hierfed.federated.private import ModelsOnDemand, PrivateState
from hierfed.methods.hierarchical.cohort import PIECE_ROWS, cohort_of
from hierfed.methods.hierarchical.factor_states import FactorsState, PooledStates, last_sums, state_of
from hierfed.methods.hierarchical.knowledge import SharedKnowledge
from hierfed.methods.hierarchical.node_items import node_items
from hierfed.methods.hierarchical.personal import PersonalFactors, newcomer
from hierfed.methods.hierarchical.personalising import personalise_users
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.hierarchical.together import FactorsTogether, NodeBlock
from hierfed.models.threads import in_order

if TYPE_CHECKING:
    from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors

# Personal models are kept for at most so many ratings and nodes. With vectors, a rating takes some hundred bytes.
KEPT_RATINGS, KEPT_NODES = 1 << 21, 256


def models_of_nodes(
    method: HierarchicalFactors,
    shared: SharedModel,
    nodes: Sequence[Node],
    private: Sequence[PrivateState | None],
    besides: Callable[[Node], Ratings | None],
    wanted: Sequence[np.ndarray] | None = None,
) -> Sequence[PersonalFactors | PiecewiseFactors] | FactorsTogether:
    """Each node's users, kriged; see HierarchicalFactors.personalise."""
    knowledge = method.knowledge(shared)

    def make(place: int) -> PersonalFactors | PiecewiseFactors:
        state, some = state_of([nodes[place]], private[place]), None if wanted is None else wanted[place]
        return model_of_node(method, shared, knowledge, state, besides(nodes[place]), some)

    rows = row_counts(nodes)
    if len(nodes) <= KEPT_NODES and (wanted is not None or rows.sum() <= KEPT_RATINGS):
        return list(in_order(make, range(len(nodes)), min(method.threads, len(nodes) or 1)))
    states = private if isinstance(private, PooledStates) else None
    plain = not isinstance(nodes, Nodes) or (states is None and private[0] is not None)
    if len(nodes) <= KEPT_NODES or method.rare_at_node or plain:
        return ModelsOnDemand(len(nodes), make)
    assert isinstance(nodes, Nodes)
    many = nodes
    stride = 1 + max(int(rows_of.ratings.user.max(initial=0)) for rows_of in (nodes.train, nodes.test))

    def block(places: range) -> NodeBlock:
        return _block(method, shared, knowledge, many, states, places, stride, besides)

    return FactorsTogether(rows, PIECE_ROWS, stride, block, make)


def model_of_node(
    method: HierarchicalFactors,
    shared: SharedModel,
    knowledge: SharedKnowledge,
    state: FactorsState,
    besides: Ratings | None,
    wanted: np.ndarray | None = None,
) -> PersonalFactors | PiecewiseFactors:
    """The users of one node, kriged.

    besides: further rows of theirs. wanted: the numbers of the users who are asked for; None for all.
    """
    trained, memory = state.cohort, state.memory
    cohort = trained if besides is None else trained.joined(besides)
    at_node = method.means_of_nodes(knowledge.beliefs, trained, memory)[0]
    if method.rare_at_node and memory is not None and method.everyone and len(trained) > 1:
        known = memory.posterior, memory.precision
        own_items = node_items(knowledge.beliefs, knowledge.design, shared.arrays["scale"], trained, *known)
        knowledge = knowledge.of_node(own_items)
    pieces = cohort.pieces
    if wanted is not None:
        cohort = cohort.of_users(wanted)
        if not len(cohort):
            nobody = newcomer(knowledge)
            return replace(nobody, newcomer=nobody.newcomer + at_node)
        pieces = [slice(0, len(cohort))]
    arrange, numbers = method.arrange(shared, cohort), torch.from_numpy(cohort.users)

    def piece(number: int) -> PersonalFactors:
        chosen = pieces[number]
        users = arrange(chosen)
        last = None
        if memory is not None and method.everyone:
            last = last_sums(trained, memory, cohort.users[chosen], None if besides is None else users.rows)
        times = cohort.times_of(chosen)
        return personalise_users(knowledge, numbers[chosen], users, at_node, method.strengths.noise, last, times)

    return piece(0) if len(pieces) == 1 else PiecewiseFactors(knowledge, numbers, pieces, piece)


def _block(
    method: HierarchicalFactors,
    shared: SharedModel,
    knowledge: SharedKnowledge,
    nodes: Nodes,
    states: PooledStates | None,
    places: range,
    stride: int,
    besides: Callable[[Node], Ratings | None],
) -> NodeBlock:
    """The users of the nodes at these places, kriged; see HierarchicalFactors.personalise.

    states: of all nodes; None for nodes that sent nothing. stride: see ModelsTogether.
    """
    some = nodes[places.start : places.stop]
    trained = cohort_of(some).numbered_among_all(places.start, stride)
    memory = None if states is None else states.remembered(np.arange(places.start, places.stop))
    further, cohort = [besides(node) for node in some], trained
    if any(each is not None for each in further):
        rows = (
            node.train if more is None else concatenated([node.train, more])
            for node, more in zip(some, further, strict=True)
        )
        joined = [Node(0, "", each, each.between(0, 0)) for each in rows]
        cohort = cohort_of(joined).numbered_among_all(places.start, stride)
    every = slice(0, len(cohort))
    users, at_nodes = method.arrange(shared, cohort)(every), method.means_of_nodes(knowledge.beliefs, trained, memory)
    last = None
    if memory is not None and method.everyone:
        last = last_sums(trained, memory, cohort.users, None if cohort is trained else users.rows)
    numbers, mine = torch.from_numpy(cohort.users), at_nodes[cohort.node_of_users]
    model = personalise_users(knowledge, numbers, users, mine, method.strengths.noise, last, cohort.times_of(every))
    return NodeBlock(model, cohort.nodes, knowledge.beliefs.covariate_weights[0] + at_nodes)
