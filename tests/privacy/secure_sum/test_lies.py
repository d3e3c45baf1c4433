"""Servers that lie about the nodes, or send again what was sent before: they are caught, and get nothing."""

from dataclasses import replace
from itertools import combinations

import pytest

from hierfed.privacy.secure_sum.encoding import Bound
from hierfed.privacy.secure_sum.messages import (
    Consent,
    Consents,
    Roster,
    Survivors,
)
from hierfed.privacy.secure_sum.refusals import Refused, TooFewNodes


@pytest.mark.parametrize("first_told", list(combinations([3, 6, 9, 12], 2)) + list(combinations([3, 6, 9, 12], 3)))
def test_two_sets_of_survivors_never_both_get_their_shares(make_round, first_told, assert_over):
    # Node 0 colludes: it signs and unmasks both sets, for which it keeps a second copy of its state.
    stepped = make_round(5, 4, 1)
    everyone = stepped.survivors()
    fewer = replace(everyone, nodes=(0, 6, 9, 12))
    given = {"everyone": [], "fewer": []}
    told = {node: everyone if node in first_told or node not in fewer.nodes else fewer for node in (3, 6, 9, 12)}
    signed = [stepped.clients[node].consent(told[node]) for node in (3, 6, 9, 12)]
    liar = stepped.clients[0]
    twin = object.__new__(type(liar))
    vars(twin).update(vars(liar))
    signed += [liar.consent(everyone)]
    other = twin.consent(fewer)
    for name, view, own in (("everyone", everyone, signed[-1]), ("fewer", fewer, other)):
        voters = [consent for consent in signed[:-1] if told[consent.sender] == view]
        for node in (3, 6, 9, 12):
            if told[node] == view:
                sent = Consents(everyone.session, tuple(sorted([own, *voters], key=lambda each: each.sender)))
                try:
                    given[name].append(stepped.clients[node].unmask(sent))
                except TooFewNodes:
                    assert_over(stepped.clients[node])
    # Of node 3, the seed is in the one view and the mask key in the other.
    assert not (given["everyone"] and given["fewer"])


def test_signatures_of_another_set_are_refused(make_round, assert_over):
    stepped = make_round(5, 4, 1)
    everyone = stepped.survivors()
    fewer = replace(everyone, nodes=everyone.nodes[:-1])
    signed = tuple(stepped.clients[node].consent(fewer if node else everyone) for node in everyone.nodes[:-1])
    for node in (0, 3):
        with pytest.raises(Refused, match=r"node \d did not sign what node \d was told: the server may lie"):
            stepped.clients[node].unmask(Consents(everyone.session, signed))
        assert_over(stepped.clients[node])


def test_no_node_signs_or_unmasks_twice(make_round, assert_over):
    stepped = make_round(5, 4, 1)
    everyone = stepped.survivors()
    signed = Consents(everyone.session, tuple(client.consent(everyone) for client in stepped.clients.values()))
    with pytest.raises(Refused, match="was asked to consent, and was due to unmask"):
        stepped.clients[0].consent(replace(everyone, nodes=everyone.nodes[:-1]))
    assert_over(stepped.clients[0])
    sent = stepped.clients[3].unmask(signed)
    assert [share.owner for share in sent.seeds] == list(everyone.nodes)
    assert sent.mask_keys == ()
    assert_over(stepped.clients[3])


def test_a_node_gives_one_kind_of_share_for_each(make_round):
    stepped = make_round(7, 5, 2)
    consents = stepped.consents(lost=(3, 9))
    for node in (0, 6, 12, 15, 18):
        sent = stepped.clients[node].unmask(consents)
        assert [share.owner for share in sent.seeds] == [0, 6, 12, 15, 18]
        assert [share.owner for share in sent.mask_keys] == [3, 9]
        stepped.server.receive(sent)
    stepped.server.total()


@pytest.mark.parametrize(
    ("told", "error", "reason"),
    [
        ((3, 6, 9, 12), Refused, "told that it dropped out"),
        ((0, 3, 6, 9, 12, 99), Refused, "shared no secrets"),
        ((0, 3, 6), TooFewNodes, "there survive 3 nodes only, and the threshold is 4"),
    ],
)
def test_survivors_that_cannot_be_are_refused(make_round, told, error, reason, assert_over):
    stepped = make_round(5, 4, 1)
    everyone = stepped.survivors()
    with pytest.raises(error, match=reason):
        stepped.clients[0].consent(replace(everyone, nodes=told))
    assert_over(stepped.clients[0])


def test_too_few_signatures_are_refused(make_round, assert_over):
    stepped = make_round(5, 4, 1)
    consents = stepped.consents()
    with pytest.raises(TooFewNodes, match="there consent 3 nodes only"):
        stepped.clients[0].unmask(replace(consents, signed=consents.signed[:3]))
    assert_over(stepped.clients[0])


def test_a_tampered_signature_is_refused(make_round, flipped):
    stepped = make_round(5, 4, 1)
    consents = stepped.consents()
    bad = (*consents.signed[:4], replace(consents.signed[4], signature=flipped(consents.signed[4].signature)))
    with pytest.raises(Refused, match="node 12 did not sign"):
        stepped.clients[0].unmask(replace(consents, signed=bad))


def test_a_signature_of_another_node_is_refused(make_round):
    stepped = make_round(5, 4, 1)
    consents = stepped.consents()
    bad = (*consents.signed[:4], replace(consents.signed[4], signature=consents.signed[3].signature))
    with pytest.raises(Refused, match="node 12 did not sign"):
        stepped.clients[0].unmask(replace(consents, signed=bad))


def test_signatures_of_nodes_that_did_not_survive_do_not_count(make_round):
    stepped = make_round(5, 4, 1)
    survivors = stepped.survivors(lost=(12,))
    consents = [stepped.clients[node].consent(survivors) for node in survivors.nodes]
    text = stepped.clients[0]._consent_text()
    for sender in (12, 99):
        client = stepped.clients[0 if sender == 12 else 3]
        other = Consent(survivors.session, sender, stepped.signers[12].sign(text))
        with pytest.raises(Refused, match=f"node {sender} did not sign"):
            client.unmask(Consents(survivors.session, (*consents, other)))


def test_nodes_that_were_told_of_different_sharers_do_not_unmask(make_round):
    # For node 0, node 12 never shared anything; for the others, it dropped out and its mask key is due.
    stepped = make_round(5, 4, 1)
    inboxes = stepped.inboxes()
    inboxes[0] = replace(inboxes[0], boxes=inboxes[0].boxes[:-1])
    for node in (0, 3, 6, 9):
        stepped.clients[node].mask(inboxes[node])
    survivors = Survivors(stepped.setup.session, (0, 3, 6, 9))
    signed = Consents(survivors.session, tuple(stepped.clients[node].consent(survivors) for node in survivors.nodes))
    for node in survivors.nodes:
        with pytest.raises(Refused, match="did not sign what node"):
            stepped.clients[node].unmask(signed)


def test_signatures_of_an_earlier_round_of_the_same_id_are_refused(make_round):
    earlier, later = make_round(5, 4, 1, draws=1), make_round(5, 4, 1, draws=2)
    assert earlier.setup.session == later.setup.session
    old = earlier.consents()
    survivors = later.survivors()
    later.clients[0].consent(survivors)
    with pytest.raises(Refused, match="did not sign what node 0 was told"):
        later.clients[0].unmask(old)


def test_old_keys_of_other_nodes_gain_the_server_nothing(make_round, assert_over):
    # The old boxes are bound to the old list of keys, and the old nodes' signatures too.
    earlier, later = make_round(5, 4, 1, draws=1), make_round(5, 4, 1, draws=2)
    old = earlier.roster()
    client = later.clients[0]
    mixed = replace(old, advertised=(client.advertise(), *old.advertised[1:]))
    client.share(mixed)
    inbox = earlier.inboxes(old)[0]
    with pytest.raises(Refused, match="do not open"):
        client.mask(inbox)
    assert_over(client)


def test_messages_of_another_round_are_refused_by_clients(make_round, assert_over):
    other = make_round(5, 4, 1, round_id=b"training 1, round 2")
    reason = "another round, or of other terms"
    stepped = make_round(5, 4, 1)
    foreign = other.setup.session
    roster = stepped.roster()
    with pytest.raises(Refused, match=reason):
        stepped.clients[0].share(replace(roster, session=foreign))
    stepped = make_round(5, 4, 1)
    inboxes = stepped.inboxes()
    with pytest.raises(Refused, match=reason):
        stepped.clients[0].mask(replace(inboxes[0], session=foreign))
    stepped = make_round(5, 4, 1)
    survivors = stepped.survivors()
    with pytest.raises(Refused, match=reason):
        stepped.clients[0].consent(replace(survivors, session=foreign))
    stepped = make_round(5, 4, 1)
    consents = stepped.consents()
    with pytest.raises(Refused, match=reason):
        stepped.clients[0].unmask(replace(consents, session=foreign))
    assert_over(stepped.clients[0])


def test_nodes_under_other_terms_do_not_work_together(make_round, bounds):
    # The server told node 0 of other bounds than the others: it would learn the scale of what it decodes.
    terms = make_round(5, 4, 1), make_round(5, 4, 1, bounds=bounds | {"mean": Bound(20)})
    advertised = tuple(stepped.clients[3 * k].advertise() for k, stepped in enumerate([*terms, *[terms[0]] * 3]))
    with pytest.raises(Refused, match="keys that node 3 did not sign for this round"):
        terms[0].clients[0].share(Roster(terms[0].setup.session, advertised))
