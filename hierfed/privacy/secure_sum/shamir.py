"""Shamir's secret sharing over a prime field (Shamir, CACM 22(11), 1979, doi 10.1145/359168.359176)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

RandomBytes = Callable[[int], bytes]
# A Mersenne prime (Robinson, 1952): holds 256-bit secrets, and the Lucas-Lehmer test proves it in a moment.
PRIME = 2**521 - 1
SHARE_BYTES = 66


@dataclass(frozen=True)
class Polynomial:
    """A polynomial over the integers modulo `prime`. coefficients: ascending; the first one is the secret."""

    coefficients: tuple[int, ...]
    prime: int = PRIME

    def at(self, point: int) -> int:
        """Its value at this point, by Horner's rule."""
        value = 0
        for coefficient in reversed(self.coefficients):
            value = (value * point + coefficient) % self.prime
        return value


def split(
    secret: int, points: Sequence[int], threshold: int, random_bytes: RandomBytes = os.urandom, prime: int = PRIME
) -> dict[int, int]:
    """The shares of a secret by their points: any `threshold` of them give it, fewer disclose nothing about it.

    Raises ValueError for a secret outside the field, for points that are not distinct and in [1, prime), or for fewer
    points than the threshold.
    """
    if not 0 <= secret < prime:
        raise ValueError("the secret is no element of the field")
    _check_points(points, prime)
    if not 1 <= threshold <= len(points):
        raise ValueError(f"a threshold of {threshold} of {len(points)} shares")
    drawn = (random_element(random_bytes, prime) for _ in range(threshold - 1))
    polynomial = Polynomial((secret, *drawn), prime)
    return {point: polynomial.at(point) for point in points}


def weights(points: Sequence[int], prime: int = PRIME) -> dict[int, int]:
    """The weights of the shares at these points in a sum that gives the secret: Lagrange's polynomials at 0.

    They do not depend on the secret, so one set serves all secrets that the same nodes hold shares of. Raises
    ValueError unless the points are distinct and in [1, prime).
    """
    _check_points(points, prime)
    found = {}
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * other % prime
                below = below * (other - point) % prime
        found[point] = above * pow(below, -1, prime) % prime
    return found


def recombine(shares: Mapping[int, int], weights_of: Mapping[int, int], prime: int = PRIME) -> int:
    """The secret, from the shares at the points of the weights; KeyError for a missing share."""
    return sum(weight * shares[point] for point, weight in weights_of.items()) % prime


def random_element(random_bytes: RandomBytes = os.urandom, prime: int = PRIME) -> int:
    """A uniform element of the field, by rejection: a remainder would prefer small elements."""
    bits = prime.bit_length()
    while True:
        drawn = int.from_bytes(random_bytes((bits + 7) // 8), "little") & ((1 << bits) - 1)
        if drawn < prime:
            return drawn


def _check_points(points: Sequence[int], prime: int) -> None:
    if len(set(points)) != len(points) or not all(1 <= point < prime for point in points):
        raise ValueError("points of shares must be distinct, and in [1, prime): the value at 0 is the secret")
