"""Simulated speeds of nodes: the time from a request to its answer. Free of NumPy until one is drawn.

The unit is that of a usual node's answer. Each time depends only on the seed, the node and the number of its answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SLOW = 10.0
"""The time of the slow node, and the mean time for which a device sleeps."""

_NODE_SPREAD, _ANSWER_SPREAD = 0.5, 0.25
_SLEEPS = 0.2


@dataclass(frozen=True)
class Asked:
    """A request. answer: the how-manieth of the node, from 0. node, nodes: its number, and how many there are."""

    seed: int
    answer: int
    node: int
    nodes: int


Speed = Callable[[Asked], float]
"""Gives the time until the answer."""


def constant(asked: Asked) -> float:
    """Every answer takes 1."""
    return 1.0


def lognormal(asked: Asked) -> float:
    """Log-normal with median 1: nodes differ by .5 in the logarithm, a node's answers by .25."""
    from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

    of_node = generator(asked.seed, 0, asked.node, "speed").standard_normal()
    of_answer = generator(asked.seed, asked.answer, asked.node, "answer time").standard_normal()
    return math.exp(_NODE_SPREAD * of_node + _ANSWER_SPREAD * of_answer)


def one_slow(asked: Asked) -> float:
    """One node, drawn at random, takes 10, and the others 1."""
    from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

    slow = int(generator(asked.seed, 0, 0, "slow node").integers(asked.nodes))
    return SLOW if asked.node == slow else 1.0


def sleeping(asked: Asked) -> float:
    """An answer takes 1; in one of five times the device sleeps before, for an exponential time of mean 10."""
    from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

    random = generator(asked.seed, asked.answer, asked.node, "sleep")
    asleep = random.random() < _SLEEPS
    return 1.0 + asleep * float(random.exponential(SLOW))
