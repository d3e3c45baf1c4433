"""Servers and nodes that do not keep to the protocol: they are caught, and nothing is revealed."""

from dataclasses import replace
from itertools import combinations

import pytest

from hierfed.privacy.secure_sum.agreement import KeyPair, pair_mask_key
from hierfed.privacy.secure_sum.encoding import Bound
from hierfed.privacy.secure_sum.messages import (
    Advertisement,
    Box,
    Consents,
    Inbox,
    Roster,
    Share,
    Survivors,
)
from hierfed.privacy.secure_sum.refusals import Refused, SecureSumError, TooFewNodes
from hierfed.privacy.secure_sum.shamir import SHARE_BYTES


def assert_over(client):
    """The client gives nothing any more, whatever it is asked."""
    session = client._setup.session
    asked = (
        client.advertise,
        lambda: client.share(Roster(session, ())),
        lambda: client.mask(Inbox(session, ())),
        lambda: client.consent(Survivors(session, ())),
        lambda: client.unmask(Consents(session, ())),
    )
    for ask in asked:
        with pytest.raises(Refused, match="was due to nothing"):
            ask()


def flipped(data, place=0):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


# What the server tells of the survivors.


@pytest.mark.parametrize("first_told", list(combinations([3, 6, 9, 12], 2)) + list(combinations([3, 6, 9, 12], 3)))
def test_two_sets_of_survivors_never_both_get_their_shares(make_round, first_told):
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


def test_signatures_of_another_set_are_refused(make_round):
    stepped = make_round(5, 4, 1)
    everyone = stepped.survivors()
    fewer = replace(everyone, nodes=everyone.nodes[:-1])
    signed = tuple(stepped.clients[node].consent(fewer if node else everyone) for node in everyone.nodes[:-1])
    for node in (0, 3):
        with pytest.raises(Refused, match=r"node \d did not sign what node \d was told: the server may lie"):
            stepped.clients[node].unmask(Consents(everyone.session, signed))
        assert_over(stepped.clients[node])


def test_no_node_signs_or_unmasks_twice(make_round):
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
        ((0, 3, 6), TooFewNodes, "only 3 nodes survive, and the threshold is 4"),
    ],
)
def test_survivors_that_cannot_be_are_refused(make_round, told, error, reason):
    stepped = make_round(5, 4, 1)
    everyone = stepped.survivors()
    with pytest.raises(error, match=reason):
        stepped.clients[0].consent(replace(everyone, nodes=told))
    assert_over(stepped.clients[0])


def test_too_few_signatures_are_refused(make_round):
    stepped = make_round(5, 4, 1)
    consents = stepped.consents()
    with pytest.raises(TooFewNodes, match="only 3 nodes consent"):
        stepped.clients[0].unmask(replace(consents, signed=consents.signed[:3]))
    assert_over(stepped.clients[0])


def test_a_tampered_signature_is_refused(make_round):
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
    with pytest.raises(Refused, match="node 12 did not sign"):
        stepped.clients[0].unmask(Consents(survivors.session, (*consents, replace(consents[0], sender=12))))


# What the server sends again, or from elsewhere.


def test_signatures_of_an_earlier_round_of_the_same_id_are_refused(make_round):
    earlier, later = make_round(5, 4, 1, draws=1), make_round(5, 4, 1, draws=2)
    assert earlier.setup.session == later.setup.session
    old = earlier.consents()
    survivors = later.survivors()
    later.clients[0].consent(survivors)
    with pytest.raises(Refused, match="did not sign what node 0 was told"):
        later.clients[0].unmask(old)


def test_old_keys_of_other_nodes_gain_the_server_nothing(make_round):
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


def test_messages_of_another_round_are_refused_by_clients(make_round):
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


# The list of keys.


def replaced(roster, place, **changes):
    advertised = list(roster.advertised)
    advertised[place] = replace(advertised[place], **changes)
    return replace(roster, advertised=tuple(advertised))


def signed_by(stepped, node, **changes):
    """An advertisement that its node signed itself, of other keys than its client's."""
    fields = {"sealing_key": b"k" * 32, "masking_key": b"m" * 32} | changes
    unsigned = Advertisement(stepped.setup.session, node, signature=b"", **fields)
    return replace(unsigned, signature=stepped.signers[node].sign(unsigned.signed_text()))


@pytest.mark.parametrize("key", ["sealing_key", "masking_key"])
def test_keys_that_the_server_put_in_are_refused(make_round, key):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    with pytest.raises(Refused, match="keys that node 3 did not sign"):
        stepped.clients[0].share(replaced(roster, 1, **{key: KeyPair(b"p" * 32).public}))
    assert_over(stepped.clients[0])


def test_keys_swapped_between_purposes_or_nodes_are_refused(make_round):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    one = roster.advertised[1]
    with pytest.raises(Refused, match="did not sign"):
        stepped.clients[0].share(replaced(roster, 1, sealing_key=one.masking_key, masking_key=one.sealing_key))
    with pytest.raises(Refused, match="did not sign"):
        stepped.clients[3].share(
            replaced(roster, 2, sealing_key=one.sealing_key, masking_key=one.masking_key, signature=one.signature)
        )
    with pytest.raises(Refused, match="did not sign"):
        stepped.clients[6].share(replaced(roster, 2, sender=7))


def test_a_roster_without_oneself_or_with_old_keys_is_refused(make_round):
    stepped, other = make_round(5, 4, 1), make_round(5, 4, 1, draws=7)
    roster, old = stepped.roster(), other.roster()
    with pytest.raises(Refused, match="lacks the keys of node 12"):
        stepped.clients[12].share(replace(roster, advertised=roster.advertised[:-1]))
    with pytest.raises(Refused, match="lacks the keys of node 0"):
        stepped.clients[0].share(replace(roster, advertised=(old.advertised[0], *roster.advertised[1:])))


def test_a_short_roster_is_refused(make_round):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    with pytest.raises(TooFewNodes, match="only 3 nodes advertised"):
        stepped.clients[0].share(replace(roster, advertised=roster.advertised[:3]))


def test_the_same_key_twice_is_refused(make_round):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    copy = signed_by(stepped, 12, masking_key=roster.advertised[0].masking_key)
    with pytest.raises(Refused, match="the same key twice"):
        stepped.clients[0].share(replace(roster, advertised=(*roster.advertised[:-1], copy)))


# The points of order 1, 2 and 4, and one of order 8.
@pytest.mark.parametrize(
    "weak",
    [
        bytes(32),
        b"\x01" + bytes(31),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ],
)
def test_keys_of_low_order_are_refused(make_round, weak):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    advertised = (*roster.advertised[:-1], signed_by(stepped, 12, sealing_key=weak))
    with pytest.raises(Refused, match="low order"):
        stepped.clients[0].share(replace(roster, advertised=advertised))
    assert_over(stepped.clients[0])
    with pytest.raises(Refused, match="low order"):
        pair_mask_key(KeyPair(b"p" * 32), weak, roster.session, 0, 12)


def test_different_rosters_for_different_nodes_are_found_before_anything_is_masked(make_round):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    short = replace(roster, advertised=roster.advertised[:-1])
    stepped.clients[0].share(short)
    boxes = [
        Box(node, next(box for box in stepped.clients[node].share(roster).boxes if box.peer == 0).data)
        for node in (3, 6, 9)
    ]
    with pytest.raises(Refused, match="the shares from node 3 do not open"):
        stepped.clients[0].mask(Inbox(roster.session, tuple(boxes)))
    assert_over(stepped.clients[0])


# The boxes.


def test_tampered_boxes_are_refused(make_round):
    for place in (0, 40, -1):
        stepped = make_round(5, 4, 1)
        inbox = stepped.inboxes()[0]
        box = inbox.boxes[2]
        data = flipped(box.data, place % len(box.data))
        boxes = tuple(replace(each, data=data) if each is box else each for each in inbox.boxes)
        with pytest.raises(Refused, match=f"the shares from node {box.peer} do not open"):
            stepped.clients[0].mask(replace(inbox, boxes=boxes))
        assert_over(stepped.clients[0])


def test_boxes_of_other_pairs_are_refused(make_round):
    wrong = {
        "for another node": lambda inboxes: inboxes[6].boxes[1].data,
        "from another node": lambda inboxes: inboxes[0].boxes[1].data,
        "one's own, sent back": lambda inboxes: inboxes[3].boxes[0].data,
        "nothing": lambda inboxes: b"",
    }
    for choose in wrong.values():
        stepped = make_round(5, 4, 1)
        inboxes = stepped.inboxes()
        boxes = (Box(3, choose(inboxes)), *inboxes[0].boxes[1:])
        with pytest.raises(Refused, match="the shares from node 3 do not open"):
            stepped.clients[0].mask(replace(inboxes[0], boxes=boxes))


def test_boxes_of_strangers_or_of_too_few_are_refused(make_round):
    stepped = make_round(5, 4, 1)
    inboxes = stepped.inboxes()
    with pytest.raises(Refused, match="node 1, which is not on the roster"):
        stepped.clients[0].mask(replace(inboxes[0], boxes=(Box(1, b""), *inboxes[0].boxes)))
    with pytest.raises(TooFewNodes, match="only 3 nodes shares came"):
        stepped.clients[3].mask(replace(inboxes[3], boxes=inboxes[3].boxes[:2]))


# What nodes send to an honest server.


def test_the_server_refuses_and_goes_on(make_round):
    stepped = make_round(5, 4, 1)
    server, clients = stepped.server, stepped.clients
    foreign = make_round(5, 4, 1, round_id=b"2").setup.session

    def refuse(message, reason):
        with pytest.raises(Refused, match=reason):
            server.receive(message)

    advertised = {node: client.advertise() for node, client in clients.items()}
    refuse(replace(advertised[0], session=foreign), "answers another round")
    refuse(replace(advertised[0], signature=flipped(advertised[0].signature)), "not signed by it")
    refuse(replace(advertised[0], sender=3), "not signed by it")
    refuse(replace(advertised[0], sender=1), "not among those")
    for node in (0, 3, 6, 9):
        server.receive(advertised[node])
    refuse(advertised[0], "second message in phase ADVERTISE")
    roster = server.roster()
    refuse(advertised[12], "of phase ADVERTISE in phase SHARE")

    shared = {node: clients[node].share(roster) for node in (0, 3, 6, 9)}
    refuse(replace(shared[0], boxes=shared[0].boxes[1:]), "shares to others")
    refuse(replace(shared[0], sender=3), "shares to others")
    refuse(replace(shared[0], sender=12), "not among those")
    for message in shared.values():
        server.receive(message)
    refuse(shared[0], "second message")
    inboxes = server.inboxes()

    uploads = {node: clients[node].mask(inboxes[node]) for node in (0, 3, 6, 9)}
    refuse(replace(uploads[0], vector=uploads[0].vector[8:]), "a vector of")
    refuse(replace(uploads[0], sender=12), "not among those")
    for message in uploads.values():
        server.receive(message)
    refuse(uploads[0], "second message")
    survivors = server.announce()

    consents = {node: clients[node].consent(survivors) for node in (0, 3, 6, 9)}
    refuse(replace(consents[0], signature=consents[3].signature), "signed something else")
    for message in consents.values():
        server.receive(message)
    refuse(consents[0], "second message")
    signed = server.consents()

    sent = {node: clients[node].unmask(signed) for node in (0, 3, 6, 9)}
    refuse(replace(sent[0], seeds=sent[0].seeds[1:]), "other shares")
    refuse(replace(sent[0], mask_keys=(Share(12, bytes(SHARE_BYTES)),)), "other shares")
    for message in sent.values():
        server.receive(message)
    refuse(sent[0], "second message")
    total = server.total()
    plain = sum(float(stepped.contributions[node].arrays["count"].sum()) for node in (0, 3, 6, 9))
    assert float(total.arrays["count"].sum()) == plain


def test_phases_end_in_their_order(make_round):
    for end in ("inboxes", "announce", "consents", "total"):
        server = make_round(5, 4, 1).server
        with pytest.raises(Refused, match="cannot end in phase ADVERTISE"):
            getattr(server, end)()
        with pytest.raises(Refused, match="cannot end in phase OVER"):
            server.roster()


@pytest.mark.parametrize("kind", ["seeds", "mask_keys"])
@pytest.mark.parametrize("change", ["bit", "junk"])
def test_wrong_shares_give_no_sum(make_round, kind, change):
    stepped = make_round(5, 4, 1)
    consents = stepped.consents(lost=(12,))
    for node in (0, 3, 6, 9):
        sent = stepped.clients[node].unmask(consents)
        if node == 6:
            first, *rest = getattr(sent, kind)
            # The lowest bits of an X25519 key do not count: a key that differs in them alone is the same.
            data = flipped(first.data, 20) if change == "bit" else b"j" * (SHARE_BYTES - 2) + bytes(2)
            sent = replace(sent, **{kind: (replace(first, data=data), *rest)})
        stepped.server.receive(sent)
    owner = 0 if kind == "seeds" else 12
    with pytest.raises(Refused, match=f"of node {owner} does not come out of the shares"):
        stepped.server.total()


def test_wrong_shares_that_stay_small_are_found_by_what_was_promised(make_round):
    # Shares of another secret of 256 bits: each is a fine one, and so is what comes out.
    for kind, lost in (("seeds", ()), ("mask_keys", (12,))):
        stepped, other = make_round(5, 4, 1), make_round(5, 4, 1, draws=5)
        consents, others = stepped.consents(lost), other.consents(lost)
        for node in consents.signed:
            right, wrong = (each.clients[node.sender].unmask(of) for each, of in ((stepped, consents), (other, others)))
            stepped.server.receive(replace(right, **{kind: getattr(wrong, kind)}))
        with pytest.raises(Refused, match="does not come out of the shares"):
            stepped.server.total()


def test_a_vector_that_is_no_contribution_gives_no_sum(make_round):
    stepped = make_round(5, 4, 1)
    inboxes = stepped.inboxes()
    for node, client in stepped.clients.items():
        message = client.mask(inboxes[node])
        stepped.server.receive(replace(message, vector=bytes(len(message.vector))) if node == 6 else message)
    survivors = stepped.server.announce()
    for client in stepped.clients.values():
        stepped.server.receive(client.consent(survivors))
    consents = stepped.server.consents()
    for client in stepped.clients.values():
        stepped.server.receive(client.unmask(consents))
    with pytest.raises(SecureSumError, match="a node sent no sum"):
        stepped.server.total()


def test_secrets_do_not_show_in_texts(make_round):
    stepped = make_round(3)
    stepped.inboxes()
    pair = KeyPair(b"\x07" * 32)
    assert "7" not in repr(pair)
    assert "x07" not in str(pair)
