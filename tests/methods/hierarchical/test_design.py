"""Features as the model uses them, by hand from content and numbers of raters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from hierfed.data.content import Content
from hierfed.methods.hierarchical.beliefs import Beliefs, first_beliefs, prior_user_variances
from hierfed.methods.hierarchical.design import Design, design_of

RATERS = (0, 1, 2, 3, 9, 40)


@pytest.fixture(scope="module")
def content(make_content: Callable[..., Content]) -> Content:
    return make_content(len(RATERS))


@pytest.fixture(scope="module")
def design(content: Content) -> Design:
    return design_of(content, torch.tensor(RATERS, dtype=torch.float64), threshold=3)


def test_items_under_the_threshold_count_half_of_it_whatever_their_number(content: Content, design: Design):
    assert design.raters.tolist() == [1.5, 1.5, 1.5, 3, 9, 40]
    assert design.shared.tolist() == [0, 0, 0, 1, 1, 1]
    other = design_of(content, torch.tensor([2, 0, 1, 3, 9, 40], dtype=torch.float64), threshold=3)
    for name in ("raters", "shared", "slopes", "covariates", "content"):
        assert torch.equal(getattr(design, name), getattr(other, name)), "how many raters it has is not to be seen"


@pytest.mark.parametrize("threshold", [0, 1])
def test_an_item_without_raters_is_never_shared(content: Content, threshold: int):
    found = design_of(content, torch.tensor(RATERS, dtype=torch.float64), threshold)
    assert found.shared.tolist() == [0, 1, 1, 1, 1, 1]
    assert torch.isfinite(found.slopes).all()


def test_rows_of_shared_items_go_back_among_all(content: Content, design: Design):
    rows = torch.tensor([[1.0, 2], [3, 4], [5, 6]]).double()
    assert design.shared_items.tolist() == [3, 4, 5]
    assert design.among_all(rows).tolist() == [[0, 0]] * 3 + rows.tolist()
    nothing = design_of(content, torch.tensor(RATERS).double(), threshold=41)
    assert torch.equal(nothing.among_all(rows[:0]), torch.zeros(6, 2).double())


def test_features_by_hand(content: Content, design: Design):
    weights = np.array([1.5, 1.5, 1.5, 3, 9, 40])
    popularity = np.log(1 + weights) / 3
    flags = np.column_stack([content.unit_genres, content.year_bumps, popularity, popularity**2])

    def centred(values: np.ndarray) -> np.ndarray:
        return values - (weights[:, None] * values).sum(0) / weights.sum()

    slopes = np.column_stack([centred(content.scalars), centred(flags)])
    np.testing.assert_allclose(design.slopes, slopes, atol=1e-12)
    covariates = np.column_stack([centred(content.scalars), 3 * centred(flags)])
    np.testing.assert_allclose(design.covariates, covariates, atol=1e-12)
    expected = np.column_stack([np.ones(6), flags, centred(content.scalars), centred(content.genres)])
    np.testing.assert_allclose(design.content, expected, atol=1e-12)
    traits = np.column_stack([np.ones(6), content.unit_genres, centred(content.scalars), centred(content.genres)])
    np.testing.assert_allclose(design.traits, traits, atol=1e-12)
    scalars = content.scalars.shape[1]
    assert design.slope_variances.tolist() == [0.003] * scalars + [0.005] * (slopes.shape[1] - scalars)


def test_an_embedding_is_centred_and_of_unit_mean_square_over_ratings(design: Design):
    embedding = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embedding *= design.shared[:, None]
    found = design.embedded(embedding)
    weights, shared = design.raters / design.raters.sum(), design.shared > 0
    centred = embedding - weights @ embedding
    expected = centred / (weights @ centred.square()).mean().sqrt()
    torch.testing.assert_close(found[shared], expected[shared], rtol=0, atol=1e-12)
    features = design.prior_features(embedding)
    assert torch.equal(features, torch.cat([design.content, found], 1))
    nothing = torch.zeros(6, 4).double()
    assert torch.equal(design.embedded(nothing), nothing)
    assert design.prior_features(torch.zeros(6, 0).double()).shape == design.content.shape


def test_items_without_sums_have_the_embedding_that_their_traits_tell(design: Design):
    embedding = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, shared = design.embedded(embedding * design.shared[:, None]), (design.shared > 0).numpy()
    assert 0 < shared.sum() < len(shared)
    content = design.traits.numpy()
    products = content[shared].T @ content[shared]
    ridge = Ridge(0.1 * np.diag(products).mean(), fit_intercept=False, solver="cholesky")
    expected = ridge.fit(content[shared], found.numpy()[shared]).predict(content[~shared])
    np.testing.assert_allclose(found.numpy()[~shared], expected, atol=1e-9)


def test_beliefs_go_through_arrays_unchanged(design: Design):
    factors = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    beliefs = first_beliefs(design, 5, 2, factors)
    again = Beliefs.of({**beliefs.arrays(), "embedding": torch.zeros(1)})
    assert again.arrays().keys() == beliefs.arrays().keys()
    assert all(again.arrays()[name] is array for name, array in beliefs.arrays().items())
    assert beliefs.rank == 2
    torch.testing.assert_close(beliefs.item_mean, torch.cat([torch.zeros(6, 1).double(), factors / 10], 1))
    variances = prior_user_variances(design, 2).tolist()
    assert variances == [0.15, 0.02, 0.02, *design.slope_variances.tolist()]
    size = 3 + design.slopes.shape[1]
    assert beliefs.user_spread.shape == (size, size)
    assert beliefs.covariate_weights.shape == (1 + design.covariates.shape[1] + 2, size)
    assert beliefs.item_weights.shape == (5, 3)
