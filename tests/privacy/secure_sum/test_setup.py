import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hierfed.privacy.secure_sum.encoding import Bound, plan
from hierfed.privacy.secure_sum.refusals import SecureSumError
from hierfed.privacy.secure_sum.setup import Setup, colluders, smallest_threshold


def setup_of(count, threshold, colluding, round_id=b"1", limit=1.0):
    key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    return Setup(
        round_id, dict.fromkeys(range(count), key), plan({"x": (1,)}, {"x": Bound(limit)}, count), threshold, colluding
    )


@pytest.mark.parametrize("count", range(1, 13))
@pytest.mark.parametrize("colluding", range(4))
def test_thresholds_are_those_at_which_no_two_sets_get_signed(count, colluding):
    for threshold in range(count + 2):
        # The worst server has the colluding nodes sign both sets, and half of the others each.
        honest = count - colluding
        two_sets = colluding + honest // 2 >= threshold
        enough_honest = threshold - colluding >= 2
        if threshold <= count and not two_sets and enough_honest:
            assert setup_of(count, threshold, colluding).threshold == threshold
        else:
            with pytest.raises(SecureSumError, match="threshold"):
                setup_of(count, threshold, colluding)


@pytest.mark.parametrize("count", range(2, 100))
def test_two_thirds_hold_against_a_third(count):
    colluding = colluders(count)
    assert colluding < count / 3
    assert count / 2 < smallest_threshold(count, colluding) <= 2 * count // 3 + 1
    setup_of(count, min(2 * count // 3 + 1, count), colluding)


def test_three_nodes_can_lose_one():
    assert smallest_threshold(3, colluders(3)) == 2


def test_sessions_differ_where_anything_does():
    setups = [
        setup_of(5, 4, 1),
        setup_of(6, 4, 1),
        setup_of(5, 5, 1),
        setup_of(5, 4, 0),
        setup_of(5, 4, 1, b"2"),
        setup_of(5, 4, 1, limit=2.0),
    ]
    assert len({setup.session for setup in setups}) == len(setups)
    assert setup_of(5, 4, 1).session == setups[0].session


def test_what_is_no_round_is_refused():
    with pytest.raises(SecureSumError, match="id"):
        setup_of(5, 4, 1, b"")
    with pytest.raises(SecureSumError, match="-1 colluding"):
        setup_of(5, 4, -1)
    encoding = plan({"x": (1,)}, {"x": Bound(1.0)}, 2)
    key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    with pytest.raises(SecureSumError, match="for 2 nodes, and there are 3"):
        Setup(b"1", dict.fromkeys(range(3), key), encoding, 2, 0)
    with pytest.raises(SecureSumError, match="numbered from 0"):
        Setup(b"1", {-1: key, 0: key}, encoding, 2, 0)
