"""An embedding of items by co-rating, from sums that contain no rating's value.

It holds the leading eigenvectors of the co-rating matrix D_i^-1/4 [sum_u x_u x_u' / n_u] D_i^-1/4, where x_u marks the
items that user u has rated. Subspace iteration finds them: the nodes multiply, the server orthogonalises. A round of
implicit matrix factorisation (Hu, Koren and Volinsky, ICDM 2008) then sharpens the embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hierfed.methods.hierarchical.rows import UserRows, csr
from hierfed.models.symmetric import outer_packed, ridges

OVERSAMPLING = 8
UNOBSERVED_WEIGHT = 0.1
REGULARISATION = 0.003
FIRST_SCALE = 0.3
# Raters that a new item has besides, in the middle of the embedding; and the ridge, as a share of the mean square.
MIDDLING_RATERS, RIDGE = 10.0, 1e-3


def shared_counts(rows: UserRows, shared: Tensor) -> Tensor:
    """The number of shared items that each user has rated, [users].

    shared: 1 or 0 for all items.
    """
    return (rows.rated @ shared[:, None])[:, 0]


def co_rating_sums(rows: UserRows, shared: Tensor, basis: Tensor) -> Tensor:
    """The users' part of the co-rating matrix times a basis, [own items, columns].

    basis [all items, columns]: 0 for items that are not shared.
    """
    return rows.raters @ ((rows.rated @ basis) / shared_counts(rows, shared).clamp_min(1)[:, None])


def next_basis(scale: Tensor, sums: Tensor) -> Tensor:
    """An orthonormal basis of the co-rating matrix's image.

    scale: D_i^-1/4, 0 for items that are not shared.
    """
    basis: Tensor = torch.linalg.qr(scale[:, None] * sums)[0]
    return basis


def leading_vectors(scale: Tensor, basis: Tensor, sums: Tensor, rank: int) -> Tensor:
    """The leading eigenvectors in a basis, times the roots of their eigenvalues, at the scale of new factors."""
    values, vectors = torch.linalg.eigh(basis.T @ (scale[:, None] * sums))
    order = torch.argsort(values, descending=True)[:rank]
    embedding = basis @ vectors[:, order] * values[order].clamp_min(0).sqrt()
    embedding = torch.cat([embedding, embedding.new_zeros(len(embedding), rank - embedding.shape[1])], 1)
    root_mean_square = embedding.square().mean().sqrt()
    return embedding * (FIRST_SCALE / math.sqrt(rank) / root_mean_square) if root_mean_square > 0 else embedding


def with_new_items(embedding: Tensor, sums: Tensor, raters: Tensor) -> Tensor:
    """An embedding with places for items that have none: where the other items of their raters are.

    embedding [all items, k]: 0 for items without a place. sums [all items, k]: the product of the co-rating matrix with
    it, 0 for items that are not summed. raters: of all items, in classes.
    The map from means over raters to places is the linear one that fits the items that have both.
    """
    means = sums / (raters + MIDDLING_RATERS)[:, None]
    placed = embedding.any(1)
    known, weights = means[placed], raters[placed, None]
    products = known.T @ (weights * known)
    ridge = RIDGE * products.diagonal().mean() + torch.finfo(products.dtype).tiny
    places = torch.linalg.solve(
        products + ridge * torch.eye(len(products)).to(products), known.T @ (weights * embedding[placed])
    )
    return torch.where(placed[:, None], embedding, means @ places)


def shared_products(shared: Tensor, embedding: Tensor) -> Tensor:
    """The outer products of the shared items' vectors, packed, and a last row of zeros: [shared items + 1, packed].

    Of a sparse catalogue, products of all items would take gigabytes, nearly all of them zeros.
    """
    vectors = embedding[shared > 0]
    return outer_packed(torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])]))


def implicit_sums(rows: UserRows, shared: Tensor, embedding: Tensor, products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over users' private vectors x: of x x' (packed) and x per own item, and of x x' over all users.

    embedding [all items, k]: 0 for items that are not shared.
    products: see shared_products.
    """
    common = UNOBSERVED_WEIGHT * (embedding.T @ embedding)
    weights = REGULARISATION * (shared_counts(rows, shared) + UNOBSERVED_WEIGHT * len(shared))
    places = torch.where(shared > 0, shared.cumsum(0) - 1, len(products) - 1).int()[rows.rated.col_indices().long()]
    among = csr(rows.rated.crow_indices(), places, rows.rated.values(), (len(rows.counts), len(products)))
    vectors = ridges(among @ products, rows.rated @ embedding, common, weights)
    return rows.raters @ outer_packed(vectors), rows.raters @ vectors, vectors.T @ vectors


def implicit_items(products: Tensor, sums: Tensor, user_products: Tensor, raters: Tensor, users: Tensor) -> Tensor:
    """The shared items' new vectors [shared items, rank] from the nodes' sums.

    raters: [shared items].
    users: [1], the number of users.
    """
    weights = REGULARISATION * (raters + UNOBSERVED_WEIGHT * users)
    return ridges(products, sums, UNOBSERVED_WEIGHT * user_products, weights)
