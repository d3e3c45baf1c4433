from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.privacy.secure_sum.shamir import (
    PRIME,
    SHARE_BYTES,
    Polynomial,
    random_element,
    recombine,
    split,
    weights,
)

# The worked example of "Shamir's secret sharing" in Wikipedia: secret 1234, 1234 + 166 x + 94 x^2 modulo 1613.
PUBLISHED = {1: 1494, 2: 329, 3: 965, 4: 176, 5: 1188, 6: 775}


def test_the_published_shares_come_out():
    polynomial = Polynomial((1234, 166, 94), 1613)
    assert {point: polynomial.at(point) for point in PUBLISHED} == PUBLISHED
    words = iter([166, 94])
    drawn = split(1234, list(PUBLISHED), 3, lambda count: next(words).to_bytes(count, "little"), 1613)
    assert drawn == PUBLISHED


@pytest.mark.parametrize("points", list(combinations(PUBLISHED, 3)))
def test_any_three_published_shares_give_the_secret(points):
    assert recombine(PUBLISHED, weights(points, 1613), 1613) == 1234


def test_weights_are_lagranges_at_zero():
    # 2 * 3 / ((2 - 1) * (3 - 1)) = 3, 1 * 3 / ((1 - 2) * (3 - 2)) = -3, 1 * 2 / ((1 - 3) * (2 - 3)) = 1.
    assert weights([1, 2, 3]) == {1: 3, 2: PRIME - 3, 3: 1}


def test_the_modulus_is_prime():
    # Lucas and Lehmer: 2^p - 1 is prime if and only if it divides s(p - 2), for s(0) = 4 and s(k + 1) = s(k)^2 - 2.
    number = 4
    for _ in range(521 - 2):
        number = (number * number - 2) % PRIME
    assert number == 0
    assert 2**256 <= PRIME <= 2 ** (8 * SHARE_BYTES)


@settings(deadline=None)
@given(
    secret=st.integers(0, 2**256 - 1),
    count=st.integers(1, 12),
    data=st.data(),
)
def test_any_t_shares_give_the_secret(secret, count, data):
    threshold = data.draw(st.integers(1, count))
    points = data.draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count, unique=True))
    shares = split(secret, points, threshold)
    chosen = data.draw(st.permutations(points))[:threshold]
    assert recombine({point: shares[point] for point in chosen}, weights(chosen)) == secret


def test_fewer_shares_say_nothing():
    # Over a field of 7, all 49 polynomials of degree 2: each pair of shares comes up once, whatever the secret.
    for points in combinations(range(1, 7), 2):
        for secret in range(7):
            pairs = set()
            for drawn in product(range(7), repeat=2):
                source = iter(drawn)
                shares = split(secret, [1, 2, 3, 4, 5, 6], 3, lambda count, s=source: bytes([next(s)]), 7)
                pairs.add(tuple(shares[point] for point in points))
            assert len(pairs) == 49


def test_elements_are_uniform_by_rejection():
    source = iter([7, 255, 13])
    assert random_element(lambda count: bytes([next(source)]), 7) == 5
    assert next(source, None) is None
    assert [random_element(lambda count, value=value: bytes([value]), 7) for value in range(7)] == list(range(7))


def test_coefficients_are_fresh_and_full():
    # The leading coefficient too: were it small, or the same, t - 1 shares would say something.
    shares = [split(5, [1, 2], 2) for _ in range(20)]
    slopes = {(share[2] - share[1]) % PRIME for share in shares}
    assert len(slopes) == 20
    assert max(slopes).bit_length() > 500


@pytest.mark.parametrize(
    ("secret", "points", "threshold"),
    [
        (-1, [1, 2], 2),
        (PRIME, [1, 2], 2),
        (1, [0, 1], 2),
        (1, [1, 1], 2),
        (1, [1, PRIME], 2),
        (1, [1, 2], 3),
        (1, [1, 2], 0),
    ],
)
def test_what_is_no_sharing_is_refused(secret, points, threshold):
    with pytest.raises(ValueError, match=r"field|points|threshold"):
        split(secret, points, threshold)


def test_weights_refuse_the_secrets_own_point():
    with pytest.raises(ValueError, match="points"):
        weights([0, 1])
