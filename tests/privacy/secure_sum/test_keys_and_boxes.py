"""Keys and boxes of shares that are not what their nodes sent, or that no node should send."""

from dataclasses import replace

import pytest

from hierfed.privacy.secure_sum.agreement import KeyPair, pair_mask_key, seal
from hierfed.privacy.secure_sum.messages import (
    Advertisement,
    Box,
    Inbox,
)
from hierfed.privacy.secure_sum.refusals import Refused, TooFewNodes
from hierfed.privacy.secure_sum.shamir import SHARE_BYTES


def replaced(roster, place, **changes):
    advertised = list(roster.advertised)
    advertised[place] = replace(advertised[place], **changes)
    return replace(roster, advertised=tuple(advertised))


def signed_by(stepped, node, **changes):
    """An advertisement that its node signed itself, of other keys than its client's."""
    fields = {"sealing_key": b"k" * 32, "masking_key": b"m" * 32} | changes
    unsigned = Advertisement(stepped.setup.session, node, signature=b"", **fields)
    return replace(unsigned, signature=stepped.signers[node].sign(unsigned.signed_text()))


@pytest.mark.parametrize("signature", [b"", b"s", bytes(64), bytes(1000)])
def test_what_is_no_signature_at_all_is_refused(make_round, signature):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    with pytest.raises(Refused, match="keys that node 3 did not sign"):
        stepped.clients[0].share(replaced(roster, 1, signature=signature))


@pytest.mark.parametrize("key", ["sealing_key", "masking_key"])
def test_keys_that_the_server_put_in_are_refused(make_round, key, assert_over):
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
    with pytest.raises(TooFewNodes, match="there advertised 3 nodes only"):
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
def test_keys_of_low_order_are_refused(make_round, weak, assert_over):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    advertised = (*roster.advertised[:-1], signed_by(stepped, 12, sealing_key=weak))
    with pytest.raises(Refused, match="low order"):
        stepped.clients[0].share(replace(roster, advertised=advertised))
    assert_over(stepped.clients[0])
    with pytest.raises(Refused, match="low order"):
        pair_mask_key(KeyPair(b"p" * 32), weak, roster.session, 0, 12)


def test_different_rosters_for_different_nodes_are_found_before_anything_is_masked(make_round, assert_over):
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


def test_tampered_boxes_are_refused(make_round, assert_over, flipped):
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
    with pytest.raises(TooFewNodes, match="shares came from 3 nodes only"):
        stepped.clients[3].mask(replace(inboxes[3], boxes=inboxes[3].boxes[:2]))


@pytest.mark.parametrize(
    "plain", [b"", bytes(2 * SHARE_BYTES - 1), bytes(2 * SHARE_BYTES + 1), b"\xff" * 2 * SHARE_BYTES]
)
def test_a_box_of_anything_but_two_shares_is_refused_before_a_vector_is_sent(make_round, plain, assert_over):
    stepped = make_round(5, 4, 1)
    roster = stepped.roster()
    inbox = stepped.inboxes(roster)[0]
    secret = stepped.clients[3]._sealing.shared_with(roster.advertised[0].sealing_key)
    box = Box(3, seal(secret, roster.session, roster.digest(), 3, 0, plain))
    with pytest.raises(Refused, match="a share"):
        stepped.clients[0].mask(replace(inbox, boxes=(box, *inbox.boxes[1:])))
    assert_over(stepped.clients[0])
