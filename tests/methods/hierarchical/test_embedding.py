"""What was rated together, from sums, against dense matrices of all users and items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.methods.hierarchical.embedding import (
    co_rating_sums,
    implicit_items,
    implicit_sums,
    leading_vectors,
    next_basis,
    shared_products,
    with_new_items,
)
from hierfed.methods.hierarchical.rows import arrange
from hierfed.models.symmetric import unpack

UNOBSERVED, REGULARISATION = 0.1, 0.003


def rated_matrix(problem) -> np.ndarray:
    """1 where a user has rated a shared item."""
    rated = np.zeros((problem.user.max() + 1, len(problem.design.shared)))
    rated[problem.user, problem.item] = 1
    return rated * problem.design.shared.numpy()


@pytest.fixture(scope="module")
def problem(make_problem):
    found = make_problem(seed=8, users=9, items=10, density=0.35, threshold=3)
    assert 4 <= found.design.shared.sum() <= 9
    assert (rated_matrix(found).sum(1) == 0).sum() <= 2
    return found


def of_shared(problem, dense: np.ndarray) -> np.ndarray:
    """The rows of the shared items."""
    return dense[problem.design.shared.numpy() > 0]


def test_co_rating_sums_are_products_with_the_co_rating_matrix(problem):
    rated = rated_matrix(problem)
    matrix = sum(np.outer(row, row) / max(row.sum(), 1) for row in rated)
    basis = np.random.default_rng(0).normal(0, 1, (rated.shape[1], 4)) * problem.design.shared.numpy()[:, None]
    rows = problem.users.rows
    found = problem.among_shared(rows, co_rating_sums(rows, problem.design.shared, torch.from_numpy(basis)))
    np.testing.assert_allclose(found, of_shared(problem, matrix @ basis), atol=1e-12)


def test_subspace_iteration_finds_the_leading_eigenvectors(problem):
    rated = rated_matrix(problem)
    raters = rated.sum(0)
    scale = np.where(raters > 0, np.maximum(raters, 1) ** -0.25, 0)
    co_ratings = sum(np.outer(row, row) / max(row.sum(), 1) for row in rated)
    matrix = scale[:, None] * co_ratings * scale
    values, vectors = np.linalg.eigh(matrix)
    rng, root = np.random.default_rng(1), torch.from_numpy(scale)
    basis = torch.linalg.qr(
        torch.from_numpy(rng.normal(0, 1, (len(scale), 6)) * problem.design.shared.numpy()[:, None])
    )[0]
    for _ in range(60):
        sums = co_rating_sums(problem.users.rows, problem.design.shared, root[:, None] * basis)
        sums = problem.design.among_all(problem.among_shared(problem.users.rows, sums))
        embedding = leading_vectors(root, basis, sums, 3).numpy()
        basis = next_basis(root, sums)
        np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-12)
    best = vectors[:, -3:] * np.sqrt(values[-3:])
    best *= 0.3 / np.sqrt(3) / np.sqrt(np.mean(best**2))
    # Up to signs: what the embedding says of each pair of items.
    np.testing.assert_allclose(embedding @ embedding.T, best @ best.T, atol=1e-6)
    assert np.sqrt(np.mean(embedding**2)) == pytest.approx(0.3 / np.sqrt(3), rel=1e-10)


def test_more_columns_than_items_are_padded_with_zeros():
    basis = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    found = leading_vectors(torch.ones(3).double(), basis, basis @ torch.diag(torch.tensor([3.0, 2, 1]).double()), 5)
    assert found.shape == (3, 5)
    assert (found[:, 3:] == 0).all()
    assert found[:, :3].abs().sum() > 0
    nothing = leading_vectors(torch.zeros(3).double(), basis, torch.zeros(3, 3).double(), 2)
    assert torch.equal(nothing, torch.zeros(3, 2).double())


def test_a_round_of_implicit_factorisation_is_that_of_dense_weighted_least_squares(problem):
    """Squared errors to 1 of what was rated, and to 0 of every pair, these at a tenth."""
    rated = rated_matrix(problem)
    users, items = rated.shape
    rng = np.random.default_rng(2)
    start = rng.normal(0, 0.4, (items, 3)) * problem.design.shared.numpy()[:, None]
    counts, raters = rated.sum(1), rated.sum(0)

    def solve(row: np.ndarray, vectors: np.ndarray, penalty: float) -> np.ndarray:
        left = penalty * np.eye(3)
        right = np.zeros(3)
        for seen, vector in zip(row, vectors, strict=True):
            left += (seen + UNOBSERVED) * np.outer(vector, vector)
            right += seen * vector
        return np.linalg.solve(left, right)

    private = np.array(
        [
            solve(row, start, REGULARISATION * (count + UNOBSERVED * items))
            for row, count in zip(rated, counts, strict=True)
        ]
    )
    rows, embedding = problem.users.rows, torch.from_numpy(start)
    *of_items, user_products = implicit_sums(
        rows, problem.design.shared, embedding, shared_products(problem.design.shared, embedding)
    )
    products, sums = (problem.among_shared(rows, each) for each in of_items)
    expected = np.einsum("ui,ua,ub->iab", rated, private, private)
    np.testing.assert_allclose(unpack(products, 3).numpy(), of_shared(problem, expected), atol=1e-11)
    np.testing.assert_allclose(sums.numpy(), of_shared(problem, rated.T @ private), atol=1e-11)
    np.testing.assert_allclose(user_products.numpy(), private.T @ private, atol=1e-11)

    raters_of_shared = torch.from_numpy(of_shared(problem, raters))
    found = implicit_items(products, sums, user_products, raters_of_shared, torch.tensor([users]).double())
    vectors = [
        solve(row, private, REGULARISATION * (count + UNOBSERVED * users))
        for row, count in zip(of_shared(problem, rated.T), raters_of_shared.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), vectors, atol=1e-10)


def test_items_that_are_not_shared_add_nothing_to_the_sums_of_others(problem):
    """The sums are those of the ratings of shared items alone."""
    design, rows = problem.design, problem.users.rows
    kept = design.shared.numpy()[problem.item] > 0
    assert not kept.all()
    value = torch.from_numpy(problem.value[kept])
    fewer = arrange(problem.user[kept], problem.item[kept], value, design.padded_content, design.shared)
    basis = torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    basis *= design.shared[:, None]
    (found, *of_items), (expected, *of_fewer) = (
        (
            co_rating_sums(each, design.shared, basis),
            *implicit_sums(each, design.shared, basis, shared_products(design.shared, basis)),
        )
        for each in (rows, fewer)
    )
    torch.testing.assert_close(
        problem.among_shared(rows, found), problem.among_shared(fewer, expected), rtol=0, atol=1e-13
    )
    for one, other in zip(of_items[:2], of_fewer[:2], strict=True):
        torch.testing.assert_close(
            problem.among_shared(rows, one), problem.among_shared(fewer, other), rtol=0, atol=1e-12
        )
    torch.testing.assert_close(of_items[2], of_fewer[2], rtol=0, atol=1e-12)


def test_new_items_get_the_places_of_a_weighted_ridge_regression_and_old_ones_stay():
    rng = np.random.default_rng(4)
    sums, raters = rng.normal(0, 3, (12, 2)), rng.integers(5, 40, 12).astype(float)
    embedding = rng.normal(0, 1, (12, 2))
    embedding[8:], sums[11] = 0, 0  # The last one is not summed at all.
    found = with_new_items(*(torch.from_numpy(each) for each in (embedding, sums, raters))).numpy()
    means = sums / (raters[:, None] + 10)
    root = np.sqrt(raters[:8, None])
    ridge = 1e-3 * np.mean(((root * means[:8]) ** 2).sum(0))
    rows = np.vstack([root * means[:8], np.sqrt(ridge) * np.eye(2)])
    places, *_ = np.linalg.lstsq(rows, np.vstack([root * embedding[:8], np.zeros((2, 2))]), rcond=None)
    np.testing.assert_array_equal(found[:8], embedding[:8])
    np.testing.assert_allclose(found[8:], means[8:] @ places, atol=1e-12)
    assert not found[11].any()
    nothing = torch.zeros(12, 2, dtype=torch.float64)
    assert not with_new_items(nothing, torch.from_numpy(sums), torch.from_numpy(raters)).any()
