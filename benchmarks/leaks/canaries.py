"""Canaries: half of the trainings have one invented user more, and the shared model is asked which.

The other users are the same in all trainings; what is random in a training (where it begins, its batches, its noise) is
drawn anew in each.
"""

import numpy as np
from leaks.findings import Finding
from leaks.targets import Population, Target, train

from hierfed.errors import HierfedError
from hierfed.evaluation.attacks.canary import epsilon_lower_bound, extreme_canary, most_that_can_be_shown, planted
from hierfed.evaluation.attacks.roc import area_of_few, rank_p_value, roc_curve
from hierfed.randomness import generator

RATINGS = 80
LEAST_RATERS, MOST_RATERS = 5, 20
DELTA = 1e-5


def attack_canary(target: Target, population: Population, trainings: int) -> list[Finding]:
    """A user who rates films of few raters at random with the best and the worst rating."""
    rows = population.ratings
    raters = np.bincount(rows.item, minlength=population.items)
    rare = np.flatnonzero((raters >= LEAST_RATERS) & (raters <= MOST_RATERS))
    if len(rare) < RATINGS:
        few = f"{len(rare)} films have {LEAST_RATERS} to {MOST_RATERS} raters, a canary rates {RATINGS}"
        raise HierfedError(f"{few}: take other data, or more users")
    canary = extreme_canary(rare, RATINGS, rows.limits, generator(0, 0, 0, "canary"))
    own = canary.rows(population.users)
    member, scores = np.arange(trainings) % 2 == 0, np.empty(trainings)
    for seed, inside in enumerate(member):
        training = train(target, population, planted(rows, own) if inside else rows, seed)
        scores[seed] = canary.score(training.method.predict(training.shared, own).numpy())
    finding = Finding(
        "canary",
        target.name,
        target.protection,
        "shared model",
        area_of_few(scores, member),
        roc_curve(scores, member),
        p_value=rank_p_value(scores, member),
        epsilon=(epsilon_lower_bound(scores, member, DELTA), most_that_can_be_shown(member, DELTA)),
    )
    return [finding]
