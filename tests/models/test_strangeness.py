"""The alarm against brute force, and its stated rate on data for which the user's density holds."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import multivariate_normal

from hierfed.models.strangeness import first_alarm, log_densities


def test_the_joint_densities_are_those_of_many_normal_variables():
    rng = np.random.default_rng(0)
    vectors, noise, value, mean = (
        rng.normal(size=(6, 3)),
        rng.uniform(0.5, 1, 6),
        rng.normal(size=6),
        rng.normal(size=3),
    )
    spread = np.diag([0.3, 0.2, 0.5])
    found = log_densities(*(torch.from_numpy(each) for each in (value, vectors, mean, spread, noise)))
    for count in (1, 3, 6):
        some = slice(count)
        joint = vectors[some] @ spread @ vectors[some].T + np.diag(noise[some])
        truth = multivariate_normal(vectors[some] @ mean, joint).logpdf(value[some])
        np.testing.assert_allclose(found[count - 1], truth)


def test_where_the_density_holds_false_alarms_keep_to_their_rate_and_another_user_is_found():
    rng = np.random.default_rng(1)
    prior, mean, own = torch.eye(2).double() * 0.5, torch.zeros(2).double(), torch.eye(2).double() * 0.02
    flagged, found = 0, 0
    for _ in range(400):
        vectors, noise = torch.from_numpy(rng.normal(size=(50, 2))), torch.full((50,), 0.3).double()
        tastes = rng.normal(0, 0.5**0.5, 2)
        known = torch.from_numpy(rng.normal(tastes, 0.02**0.5))

        def alarm(who: np.ndarray, about: torch.Tensor, vectors=vectors, noise=noise) -> int | None:
            value = vectors @ torch.from_numpy(who) + torch.from_numpy(rng.normal(0, 0.3**0.5, 50))
            log_factors = log_densities(value, vectors, mean, prior, noise) - log_densities(
                value, vectors, about, own, noise
            )
            return first_alarm(log_factors)

        flagged += alarm(tastes, known) is not None
        found += alarm(rng.normal(0, 0.5**0.5, 2), known) is not None
    assert flagged <= 0.02 * 400
    assert found > 0.7 * 400


def test_an_alarm_is_at_the_first_rating_that_reaches_its_level():
    assert first_alarm(torch.tensor([0.0, 4.0, 4.7, 1.0]), 0.01) == 3
    assert first_alarm(torch.tensor([0.0, 4.0])) is None
