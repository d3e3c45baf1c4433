"""The shared model of the hierarchical method, and how the server makes the first one from the opening rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierfed.federated.contract import SharedModel
from hierfed.methods.hierarchical import opening
from hierfed.methods.hierarchical.beliefs import first_beliefs
from hierfed.methods.hierarchical.design import Design, design_of
from hierfed.methods.hierarchical.embedding import OVERSAMPLING, with_new_items
from hierfed.methods.hierarchical.rare_items import no_offset
from hierfed.randomness import generator

if TYPE_CHECKING:
    from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors

# Exact numbers of raters of all items, at the server alone.
RATERS = "exact_raters"
# The embedding of a finished model, at the server alone, while a training that goes on from it opens.
FORMER_EMBEDDING = "former_embedding"


@dataclass(frozen=True)
class FactorsModel(SharedModel):
    """The shared model, with quantities that the server derives from its arrays once, and not again in every round."""

    design: Design | None = field(default=None, compare=False)
    prior_features: Tensor | None = field(default=None, compare=False)


def after_opening_round(method: HierarchicalFactors, shared: SharedModel, sums: Mapping[str, Tensor]) -> FactorsModel:
    """The next basis, or the embedding and the first beliefs, from the sums of an opening round."""
    return _embed(method, shared, sums) if shared.arrays else _begin(method, shared, sums)


def _begin(method: HierarchicalFactors, shared: SharedModel, sums: Mapping[str, Tensor]) -> FactorsModel:
    arrays, server = opening.first_arrays(sums, method.threshold), {RATERS: sums["raters"]}
    design = design_of(method.content, arrays["raters"], method.threshold)
    if not method.embedding_rank:
        embedding = arrays["raters"].new_zeros(len(method.content), 0)
        return _with_first_beliefs(method, arrays | {"embedding": embedding}, design, server)
    if FORMER_EMBEDDING in shared.server:
        former = shared.server[FORMER_EMBEDDING]
        embedding = former.new_zeros(len(method.content), former.shape[1])
        embedding[: len(former)] = former
        embedding *= design.shared[:, None]
        basis = opening.basis_of(arrays, embedding)
        return FactorsModel(
            arrays | {"basis": basis}, shared.round + 1, design, server=server | {FORMER_EMBEDDING: embedding}
        )
    columns = min(method.embedding_rank + OVERSAMPLING, len(method.content))
    basis = torch.linalg.qr(_normal(method, columns, "embedding") * design.shared[:, None])[0]
    return FactorsModel(arrays | {"basis": basis}, shared.round + 1, design, server=server)


def _embed(method: HierarchicalFactors, shared: SharedModel, sums: Mapping[str, Tensor]) -> FactorsModel:
    design = method.design(shared)
    if FORMER_EMBEDDING in shared.server:
        arrays = {name: array for name, array in shared.arrays.items() if name != "basis"}
        products = design.among_all(sums["co_ratings"])
        embedding = with_new_items(shared.server[FORMER_EMBEDDING], products, arrays["raters"])
        return _with_first_beliefs(method, arrays | {"embedding": embedding}, design, {RATERS: shared.server[RATERS]})
    last_product = shared.round == -2
    arrays = opening.next_arrays(shared.arrays, design, sums, method.embedding_rank, last_product)
    if shared.round == -1:
        return _with_first_beliefs(method, arrays, design, shared.server)
    return FactorsModel(arrays, shared.round + 1, design, server=shared.server)


def _with_first_beliefs(
    method: HierarchicalFactors, arrays: dict[str, Tensor], design: Design, server: Mapping[str, Tensor]
) -> FactorsModel:
    features = design.prior_features(arrays["embedding"])
    implicit = method.embedding_rank if method.implicit_scale else 0
    beliefs = first_beliefs(design, features.shape[1], method.rank, _normal(method, method.rank, "factors"), implicit)
    return FactorsModel(arrays | beliefs.arrays() | no_offset(design), 0, design, features, server=server)


def _normal(method: HierarchicalFactors, columns: int, purpose: str) -> Tensor:
    draws = generator(method.seed, 0, 0, purpose).standard_normal((len(method.content), columns))
    return torch.from_numpy(draws)
