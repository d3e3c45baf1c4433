"""The kernel against scikit-learn's, and that it is one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.gaussian_process.kernels import Matern
from torch import Tensor

from hierfed.models.kernel import ItemKernel, KeptKernel, KernelSettings
from hierfed.models.time_kernel import TimeKernel

few = settings(max_examples=40, deadline=None)


def random_kernel(seed: int, items: int = 12, parts: int = 2, titled: bool = True) -> ItemKernel:
    rng = np.random.default_rng(seed)
    titles = rng.random((items, 6)) * (rng.random((items, 6)) < 0.5)
    titles /= np.maximum(np.linalg.norm(titles, axis=1, keepdims=True), 1e-12)
    coordinates = [torch.from_numpy(rng.normal(0, rng.uniform(0.1, 3), (items, 1 + k))) for k in range(parts)]
    amplitudes = rng.uniform(0.01, 1, parts).tolist()
    return ItemKernel(
        tuple(zip(amplitudes, coordinates, strict=True)), csr_matrix(titles) if titled else None, 0.3 * titled
    )


def dense(kernel: ItemKernel, items: int) -> np.ndarray:
    """All pairs, part by part."""
    total = np.zeros((items, items))
    for amplitude, coordinates in kernel.parts:
        total += amplitude * Matern(length_scale=1.0, nu=1.5)(coordinates.numpy())
    if kernel.titles is not None:
        titles = kernel.titles.toarray()
        total += kernel.title_amplitude * titles @ titles.T
    return total


@pytest.mark.parametrize("titled", [True, False])
@pytest.mark.parametrize("parts", [0, 1, 3])
def test_the_kernel_is_matern_three_halves_plus_titles(parts: int, titled: bool):
    kernel = random_kernel(3, parts=parts, titled=titled)
    left = torch.tensor([[0, 3, 5, 5], [11, 2, 7, 1]])
    right = torch.tensor([[1, 0, 5], [4, 11, 10]])
    whole = dense(kernel, 12)
    expected = [whole[np.ix_(one, other)] for one, other in zip(left.numpy(), right.numpy(), strict=True)]
    # The distance of an item to itself is kept off 0, where the root has no slope: by 1e-6 of a length.
    np.testing.assert_allclose(kernel.between(left, right).numpy(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(kernel.of_itself(left).numpy(), np.diag(whole)[left.numpy()], rtol=1e-12, atol=1e-12)


@few
@given(st.integers(0, 2**32), st.integers(0, 3), st.booleans())
def test_the_kernel_is_symmetric_and_positive_semi_definite(seed, parts, titled):
    kernel = random_kernel(seed, parts=parts, titled=titled)
    all_items = torch.arange(12)[None]
    found = kernel.between(all_items, all_items)[0].numpy()
    np.testing.assert_allclose(found, found.T, atol=1e-9)
    assert np.linalg.eigvalsh((found + found.T) / 2).min() > -1e-9
    np.testing.assert_allclose(np.diag(found), kernel.of_itself(torch.arange(12)), atol=1e-9)


def test_settings_make_the_kernel_of_content_embedding_year_and_titles(make_content):
    content = make_content(8)
    embedding = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = KernelSettings(content=0.5, embedding=0.2, year=0.1, title=0.3).kernel(content, embedding)

    def matern(*columns: np.ndarray) -> np.ndarray:
        return np.asarray(Matern(length_scale=1.0, nu=1.5)(np.column_stack(columns)))

    together = embedding.numpy() / 2
    features = matern(
        0.5 * content.vote,
        0.5 * content.votes,
        0.8 * content.year,
        0.8 * content.genres,
        0.5 * content.unit_genres,
        0.8 * together,
    )
    titles = content.titles.toarray()
    expected = 0.5 * features + 0.2 * matern(2 * together) + 0.1 * matern(2 * content.year) + 0.3 * titles @ titles.T
    every = torch.arange(8)[None]
    np.testing.assert_allclose(made.between(every, every)[0].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_parts_without_amplitude_are_left_out(make_content):
    content = make_content(5)
    nothing: Tensor = torch.zeros(5, 0).double()
    made = KernelSettings(content=0, embedding=0, year=0.1, title=0).kernel(content, nothing)
    assert [amplitude for amplitude, _ in made.parts] == [0.1]
    assert made.titles is None
    untitled = KernelSettings().kernel(make_content(5, titles=False), nothing)
    assert untitled.titles is None
    assert torch.isfinite(untitled.between(torch.arange(5)[None], torch.arange(5)[None])).all()


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_tiles_and_single_precision_give_the_same_kernel(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    kernel = replace(random_kernel(4), time=TimeKernel(sitting=0.1, drift=0.2, items=0.5))
    one, other = torch.arange(12)[None], torch.arange(9)[None]
    seconds = torch.linspace(1e9, 1.0005e9, 12, dtype=torch.float64)[None]
    whole = [kernel.between(one, one, (seconds, seconds)), kernel.between(one, other, (seconds, seconds[:, :9]))]
    monkeypatch.setattr("hierfed.models.kernel.TILE", 30)
    tiled = [
        kernel.between(one, one, (seconds, seconds), kind),
        kernel.between(one, other, (seconds, seconds[:, :9]), kind),
    ]
    for found, expected in zip(tiled, whole, strict=True):
        assert found.dtype == kind
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-12 if kind == torch.float64 else 1e-5)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("timed", [False, True])
def test_multiples_of_a_kept_kernel_are_kernels_of_so_much_larger_amplitudes(kind: torch.dtype, timed: bool):
    plain, time = random_kernel(5), TimeKernel(sitting=0.3, drift=0.1, items=0.7)
    left, right = torch.tensor([[0, 3, 5], [11, 2, 7]]), torch.tensor([[1, 0], [4, 11]])
    asked = torch.tensor([[0.0, 3e3, 5e5], [1e6, 2e6, 2e6]], dtype=torch.float64)
    given = torch.tensor([[1e3, 0.0], [4e5, 2e6]], dtype=torch.float64)
    first = KeptKernel.of(plain)
    for factor in (1.0, 0.5, 0.0, 3.0):
        scaled = tuple((factor * amplitude, places) for amplitude, places in plain.parts)
        expected = replace(plain, parts=scaled, title_amplitude=factor * plain.title_amplitude, time=time)
        multiple = replace(first, factor=factor, time=time)
        for mine, other, when in ((left, left, (asked, asked)), (left, right, (asked, given))):
            times = when if timed else None
            found = multiple.between(mine, other, times, kind)
            tolerance = 1e-12 if kind == torch.float64 else 1e-5
            torch.testing.assert_close(
                found, expected.between(mine, other, times, kind), rtol=tolerance, atol=tolerance
            )
        torch.testing.assert_close(multiple.of_itself(left, timed), expected.of_itself(left, timed))
    assert len(first.kept) == 2


def test_items_of_other_users_are_no_kept_ones():
    plain = random_kernel(6)
    kept = KeptKernel.of(plain)
    for shape in ((1, 6), (2, 3), (3, 2)):
        items = torch.tensor([0, 3, 5, 11, 2, 7]).view(shape)
        torch.testing.assert_close(kept.between(items, items), plain.between(items, items))
