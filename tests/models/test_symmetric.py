"""Packed symmetric matrices against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.models.symmetric import inverse, outer_packed, pack, packed_size, unpack

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32)
few = settings(max_examples=40, deadline=None)


def random_symmetric(seed: int, size: int, *leading: int) -> np.ndarray:
    matrices = np.random.default_rng(seed).normal(0, 1, (*leading, size, size))
    return matrices + np.swapaxes(matrices, -1, -2)


@few
@given(seeds, sizes)
def test_a_packed_matrix_is_its_lower_triangle_row_by_row(seed, size):
    matrices = random_symmetric(seed, size, 3, 2)
    row, column = np.tril_indices(size)
    packed = pack(torch.from_numpy(matrices))
    assert packed.shape == (3, 2, packed_size(size))
    np.testing.assert_array_equal(packed.numpy(), matrices[..., row, column])


@few
@given(seeds, sizes)
def test_unpacking_gives_the_whole_matrix_again(seed, size):
    matrices = random_symmetric(seed, size, 4)
    np.testing.assert_array_equal(unpack(pack(torch.from_numpy(matrices)), size).numpy(), matrices)
    np.testing.assert_array_equal(unpack(pack(torch.from_numpy(matrices[0])), size).numpy(), matrices[0])


@few
@given(seeds, sizes)
def test_an_outer_product_is_packed_without_being_made(seed, size):
    vectors = np.random.default_rng(seed).normal(0, 1, (5, size))
    row, column = np.tril_indices(size)
    expected = np.einsum("na,nb->nab", vectors, vectors)[:, row, column]
    np.testing.assert_array_equal(outer_packed(torch.from_numpy(vectors)).numpy(), expected)


@few
@given(seeds, sizes)
def test_inverses_are_numpys(seed, size):
    roots = np.random.default_rng(seed).normal(0, 1, (4, size, size + 3))
    matrices = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(size)
    found = inverse(torch.from_numpy(matrices)).numpy()
    np.testing.assert_allclose(found, np.linalg.inv(matrices), rtol=1e-9, atol=1e-9)


def test_a_matrix_that_is_not_positive_definite_is_refused():
    with pytest.raises(torch.linalg.LinAlgError):
        inverse(torch.tensor([[[1.0, 0.0], [0.0, -1.0]]]).double())
