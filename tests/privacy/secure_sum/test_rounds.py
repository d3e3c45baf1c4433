from fractions import Fraction

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA384
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.federated.contract import Contribution, ordered_sum
from hierfed.privacy.secure_sum.aggregator import Aggregator, Phase
from hierfed.privacy.secure_sum.client import Client
from hierfed.privacy.secure_sum.encoding import Bound, plan
from hierfed.privacy.secure_sum.refusals import OutOfBounds, Refused, SecureSumError, TooFewNodes
from hierfed.privacy.secure_sum.setup import Setup
from hierfed.privacy.secure_sum.simulation import run_round, secure_total

PHASES = [Phase.ADVERTISE, Phase.SHARE, Phase.UPLOAD, Phase.CONSENT, Phase.UNMASK]
COUNT, THRESHOLD = 7, 5


def in_the_ring(setup, contributions):
    """The sum that the ring gives without any masks, decoded."""
    total = setup.encoding.ring.zeros()
    for contribution in contributions:
        setup.encoding.ring.add(total, setup.encoding.encode(contribution))
    return setup.encoding.decode(total, len(contributions))


def same(first, second):
    first.check_alike(second)
    return all(torch.equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("lost", range(COUNT - THRESHOLD + 1))
def test_nodes_may_be_lost_down_to_the_threshold(make_round, phase, lost):
    stepped = make_round(COUNT, THRESHOLD, 2)
    # First and last nodes: masks are added towards lower numbers and subtracted towards higher ones.
    drop = dict.fromkeys([0, 3 * (COUNT - 1)][:lost], phase)
    found = run_round(stepped.server, stepped.clients, drop).total
    kept = [node for node in stepped.contributions if phase > Phase.UPLOAD or node not in drop]
    assert stepped.server.survivors == tuple(kept)
    assert same(found, in_the_ring(stepped.setup, [stepped.contributions[node] for node in kept]))


@pytest.mark.parametrize("phase", PHASES)
def test_one_more_is_too_many(make_round, phase):
    stepped = make_round(COUNT, THRESHOLD, 2)
    drop = dict.fromkeys([0, 6, 9], phase)
    with pytest.raises(TooFewNodes, match=f"only 4 of 7 nodes are left in phase {phase.name}.*threshold is 5: no sum"):
        run_round(stepped.server, stepped.clients, drop)
    assert stepped.server.phase is Phase.OVER
    with pytest.raises(Refused):
        stepped.server.total()


def test_nodes_may_be_lost_in_all_phases_at_once(make_round):
    stepped = make_round(16, 11, 5)
    drop = {0: Phase.ADVERTISE, 6: Phase.SHARE, 21: Phase.UPLOAD, 24: Phase.CONSENT, 45: Phase.UNMASK}
    found = run_round(stepped.server, stepped.clients, drop).total
    kept = [node for node in stepped.contributions if node not in (0, 6, 21)]
    assert same(found, in_the_ring(stepped.setup, [stepped.contributions[node] for node in kept]))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_sum_is_that_of_the_survivors(data):
    count = data.draw(st.integers(2, 8))
    length = data.draw(st.integers(0, 6))
    colluding = data.draw(st.integers(0, max(0, (count - 1) // 3)))
    threshold = data.draw(st.integers(max((count + colluding) // 2 + 1, colluding + 2), count))
    nodes = data.draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count, unique=True))
    limit = data.draw(st.floats(1e-3, 1e6))
    bounds = {"narrow": Bound(limit), "wide": Bound(limit, limit * 1e-25)}
    values = st.lists(st.floats(-limit, limit), min_size=length, max_size=length)
    contributions = {
        node: Contribution({name: torch.tensor(data.draw(values), dtype=torch.float64) for name in bounds})
        for node in nodes
    }
    lost = data.draw(st.lists(st.sampled_from(nodes), max_size=count, unique=True))
    drop = {node: data.draw(st.sampled_from(PHASES)) for node in lost}
    if count - len(lost) < threshold:
        with pytest.raises(TooFewNodes):
            secure_total(contributions, bounds, threshold, colluding, drop)
        return
    found = secure_total(contributions, bounds, threshold, colluding, drop).total
    kept = [contributions[node] for node in nodes if drop.get(node, Phase.OVER) > Phase.UPLOAD]
    encoding = plan(dict.fromkeys(bounds, (length,)), bounds, count)
    for name in bounds:
        for entry in range(length):
            true = sum((Fraction(each.arrays[name][entry].item()) for each in kept), Fraction(0))
            off = abs(Fraction(found.arrays[name][entry].item()) - true)
            stated = Fraction(encoding.error(name))
            assert off <= stated + (abs(true) + stated) * Fraction(1, 2**52)


def test_three_nodes_and_one_is_killed_after_its_upload(make_contributions, bounds):
    contributions = make_contributions(3)
    found = secure_total(contributions, bounds, drop={3: Phase.CONSENT}).total
    plain = ordered_sum(contributions.values())
    for name, array in plain.arrays.items():
        assert torch.allclose(found.arrays[name], array, rtol=1e-14, atol=1e-12)


def test_the_total_does_not_depend_on_the_masks(make_contributions, bounds, seeded):
    contributions = make_contributions(4)
    first = secure_total(contributions, bounds, random_bytes=seeded(1)).total
    assert same(first, secure_total(contributions, bounds).total)
    assert same(first, secure_total(dict(reversed(contributions.items())), bounds).total)


def test_a_value_beyond_the_bound_stops_a_node_before_it_sends(make_contributions, bounds):
    contributions = make_contributions(4)
    contributions[6].arrays["mean"][1, 1] = 10.5
    with pytest.raises(OutOfBounds, match="'mean'"):
        secure_total(contributions, bounds)


def test_nobody_is_no_sum(bounds):
    with pytest.raises(SecureSumError, match="no node"):
        secure_total({}, bounds)


def test_a_stranger_is_no_client(make_round):
    stepped = make_round(3)
    with pytest.raises(SecureSumError, match="node 1 is none"):
        Client(stepped.setup, 1, stepped.signers[0], stepped.contributions[0])


def test_other_signatures_will_do(make_contributions, bounds):
    class Curve:
        """Keys such as Flower's nodes have."""

        def __init__(self):
            self.key = generate_private_key(SECP384R1())

        def sign(self, data):
            return self.key.sign(data, ECDSA(SHA384()))

        def verify(self, signature, data):
            self.key.public_key().verify(signature, data, ECDSA(SHA384()))

    contributions = make_contributions(3)
    signers = {node: Curve() for node in contributions}
    shapes = {name: tuple(array.shape) for name, array in contributions[0].arrays.items()}
    setup = Setup(b"1", signers, plan(shapes, bounds, 3), 2, 0)
    clients = {node: Client(setup, node, signers[node], contributions[node]) for node in contributions}
    found = run_round(Aggregator(setup), clients, {0: Phase.UPLOAD}).total
    assert same(found, in_the_ring(setup, [contributions[3], contributions[6]]))
