"""Nodes that do not keep to the protocol, before an honest server."""

from dataclasses import replace

import pytest

from hierfed.privacy.secure_sum.agreement import KeyPair
from hierfed.privacy.secure_sum.messages import (
    Roster,
    Share,
)
from hierfed.privacy.secure_sum.refusals import Refused, SecureSumError
from hierfed.privacy.secure_sum.shamir import SHARE_BYTES


def test_the_server_refuses_and_goes_on(make_round, flipped):
    stepped = make_round(5, 4, 1)
    server, clients = stepped.server, stepped.clients
    foreign = make_round(5, 4, 1, round_id=b"2").setup.session

    def refuse(message, reason):
        with pytest.raises(Refused, match=reason):
            server.receive(message)

    advertised = {node: client.advertise() for node, client in clients.items()}
    refuse(replace(advertised[0], session=foreign), "answers another round")
    old = make_round(5, 4, 1, round_id=b"2").clients[0].advertise()
    refuse(replace(old, session=stepped.setup.session), "not signed by it")
    refuse(replace(advertised[0], signature=flipped(advertised[0].signature)), "not signed by it")
    refuse(replace(advertised[0], sender=3), "not signed by it")
    refuse(replace(advertised[0], sender=1), "not among those")
    refuse(Roster(stepped.setup.session, ()), "a server is sent no Roster")
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
def test_wrong_shares_give_no_sum(make_round, kind, change, flipped):
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
    with pytest.raises(SecureSumError, match="some node did not keep to it"):
        stepped.server.total()


def test_secrets_do_not_show_in_texts(make_round):
    stepped = make_round(3)
    stepped.inboxes()
    pair = KeyPair(b"\x07" * 32)
    assert "7" not in repr(pair)
    assert "x07" not in str(pair)
