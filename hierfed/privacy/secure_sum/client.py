"""A node's side of one secure sum: a state machine without any transport."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum, auto

from hierfed.federated.contract import Contribution
from hierfed.plain_text import plural
from hierfed.privacy.secure_sum import shamir
from hierfed.privacy.secure_sum.agreement import (
    KeyPair,
    commitment,
    pair_mask_key,
    seal,
    self_mask_key,
    unseal,
)
from hierfed.privacy.secure_sum.messages import (
    Advertisement,
    Box,
    Consent,
    Consents,
    Inbox,
    MaskedInput,
    Roster,
    SealedShares,
    Share,
    Survivors,
    Unmasking,
    consent_text,
)
from hierfed.privacy.secure_sum.refusals import Refused, SecureSumError, TooFewNodes
from hierfed.privacy.secure_sum.setup import Setup, Signer
from hierfed.privacy.secure_sum.shamir import SHARE_BYTES, RandomBytes
from hierfed.privacy.secure_sum.streams import KEY_BYTES, MaskStream


class _Next(Enum):
    """The next step of a client."""

    ADVERTISE = auto()
    SHARE = auto()
    MASK = auto()
    CONSENT = auto()
    UNMASK = auto()
    NOTHING = auto()


@dataclass(frozen=True)
class _Held:
    """The shares that a client holds of one node's two secrets."""

    mask_key: Share = field(repr=False)
    seed: Share = field(repr=False)

    @classmethod
    def of(cls, owner: int, plain: bytes) -> _Held:
        """The shares in an opened box of their owner; raises Refused for anything but two shares."""
        return cls(Share(owner, plain[:SHARE_BYTES]), Share(owner, plain[SHARE_BYTES:]))


class Client:
    """One node in one round: five calls in this order, each once; after a refusal, no more (figure 4 of the paper).

    The server never asks a client for shares of one kind: the client gives those that follow from the set of survivors
    that it signed. So a lying server gets at most one kind for each node.
    """

    def __init__(
        self,
        setup: Setup,
        node: int,
        signer: Signer,
        contribution: Contribution,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        """Encode the contribution; raises OutOfBounds where it does not fit, before anything is sent."""
        if node not in setup.keys:
            raise SecureSumError(f"node {node} is none of this round's")
        self._setup, self._node, self._signer, self._random = setup, node, signer, random_bytes
        self._vector = setup.encoding.encode(contribution)
        self._sealing, self._masking = KeyPair.draw(random_bytes), KeyPair.draw(random_bytes)
        self._seed = random_bytes(KEY_BYTES)
        self._roster: dict[int, Advertisement] = {}
        self._roster_digest = b""
        self._secrets: dict[int, bytes] = {}
        self._held: dict[int, _Held] = {}
        self._survivors: tuple[int, ...] = ()
        self._next = _Next.ADVERTISE

    def advertise(self) -> Advertisement:
        """Round 0: fresh public keys, signed."""
        self._enter(_Next.ADVERTISE)
        self._next = _Next.SHARE
        return self._own_advertisement()

    def share(self, roster: Roster) -> SealedShares:
        """Round 1: shares of both secrets for each node of the roster.

        Raises Refused for a roster that is not a list of these nodes' keys with this node's own, TooFewNodes for a
        short one.
        """
        self._enter(_Next.SHARE, roster.session)
        self._take_roster(roster)
        setup, node = self._setup, self._node
        self._secrets = {
            peer: self._sealing.shared_with(of.sealing_key) for peer, of in self._roster.items() if peer != node
        }
        points = [setup.points[peer] for peer in self._roster]
        mask_keys, seeds = (
            shamir.split(int.from_bytes(secret, "little"), points, setup.threshold, self._random)
            for secret in (self._masking.private, self._seed)
        )
        boxes = []
        for peer in self._roster:
            point = setup.points[peer]
            plain = b"".join(shares[point].to_bytes(SHARE_BYTES, "little") for shares in (mask_keys, seeds))
            if peer == node:
                self._held[node] = _Held.of(node, plain)
            else:
                secret, view = self._secrets[peer], self._roster_digest
                boxes.append(Box(peer, seal(secret, setup.session, view, node, peer, plain)))
        self._next = _Next.MASK
        return SealedShares(setup.session, node, commitment(self._seed, setup.session, node), tuple(boxes))

    def mask(self, inbox: Inbox) -> MaskedInput:
        """Round 2: the encoded contribution under the node's own mask and one mask for each node that shared secrets.

        Raises Refused for a box that does not open or of a node outside the roster, TooFewNodes for too few boxes.
        """
        self._enter(_Next.MASK, inbox.session)
        setup, node = self._setup, self._node
        for box in inbox.boxes:
            if box.peer not in self._secrets:
                raise Refused(f"node {node} was sent shares of node {box.peer}, which is not on the roster")
            plain = unseal(self._secrets[box.peer], setup.session, self._roster_digest, box.peer, node, box.data)
            self._held[box.peer] = _Held.of(box.peer, plain)
        self._check_enough("shares came from", len(self._held))
        ring, vector = setup.encoding.ring, self._vector
        stream = MaskStream(ring.words)
        ring.add(vector, stream.expand(self_mask_key(self._seed, setup.session, node)))
        for peer in self._held:
            if peer != node:
                key = pair_mask_key(self._masking, self._roster[peer].masking_key, setup.session, node, peer)
                (ring.add if node > peer else ring.subtract)(vector, stream.expand(key))
        self._next = _Next.CONSENT
        return MaskedInput(setup.session, node, vector.astype("<u8", copy=False).tobytes())

    def consent(self, survivors: Survivors) -> Consent:
        """Round 3: the signature of the set of survivors, and of everything that the server said to this node.

        Raises Refused for a set without this node or with one that shared nothing, TooFewNodes for a small one.
        """
        self._enter(_Next.CONSENT, survivors.session)
        if self._node not in survivors.nodes:
            raise Refused(f"node {self._node} sent its vector, and is told that it dropped out")
        if not set(survivors.nodes) <= self._held.keys():
            raise Refused(f"node {self._node} is told of survivors that shared no secrets with it")
        self._check_enough("there survive", len(survivors.nodes))
        self._survivors = survivors.nodes
        self._next = _Next.UNMASK
        return Consent(self._setup.session, self._node, self._signer.sign(self._consent_text()))

    def unmask(self, consents: Consents) -> Unmasking:
        """Round 4: a share of each survivor's seed, and of the mask key of each node that dropped out.

        Raises Refused for a signature of another text than this node's own, TooFewNodes for too few signatures.
        """
        self._enter(_Next.UNMASK, consents.session)
        text, setup = self._consent_text(), self._setup
        for consent in consents.signed:
            if consent.sender not in self._survivors or not setup.signed(consent.sender, consent.signature, text):
                raise Refused(f"node {consent.sender} did not sign what node {self._node} was told: the server may lie")
        self._check_enough("there consent", len(consents.signed))
        seeds = [self._held[node].seed for node in self._survivors]
        dropped = sorted(self._held.keys() - set(self._survivors))
        mask_keys = [self._held[node].mask_key for node in dropped]
        self._held = {}
        return Unmasking(setup.session, self._node, tuple(mask_keys), tuple(seeds))

    def _enter(self, step: _Next, session: bytes | None = None) -> None:
        """Begin a step; a failure leaves no next step, so no step can be tried twice."""
        due, self._next = self._next, _Next.NOTHING
        if due is not step:
            raise Refused(f"node {self._node} was asked to {step.name.lower()}, and was due to {due.name.lower()}")
        if session is not None and session != self._setup.session:
            raise Refused(f"node {self._node} was sent a message of another round, or of other terms")

    def _own_advertisement(self) -> Advertisement:
        unsigned = Advertisement(self._setup.session, self._node, self._sealing.public, self._masking.public, b"")
        signature = self._signer.sign(unsigned.signed_text())
        return Advertisement(unsigned.session, unsigned.sender, unsigned.sealing_key, unsigned.masking_key, signature)

    def _take_roster(self, roster: Roster) -> None:
        for each in roster.advertised:
            known = each.session == self._setup.session and each.sender in self._setup.keys
            if not known or not self._setup.signed(each.sender, each.signature, each.signed_text()):
                raise Refused(f"the roster has keys that node {each.sender} did not sign for this round")
        self._roster = {each.sender: each for each in roster.advertised}
        own = self._roster.get(self._node)
        if own is None or (own.sealing_key, own.masking_key) != (self._sealing.public, self._masking.public):
            raise Refused(f"the roster lacks the keys of node {self._node}, to which it was sent")
        keys = {key for each in roster.advertised for key in (each.sealing_key, each.masking_key)}
        if len(keys) != 2 * len(roster.advertised):
            raise Refused("the roster has the same key twice")
        self._check_enough("there advertised", len(self._roster))
        self._roster_digest = roster.digest()

    def _check_enough(self, what: str, count: int) -> None:
        if count < self._setup.threshold:
            raise TooFewNodes(f"{what} {plural(count, 'node')} only, and the threshold is {self._setup.threshold}")

    def _consent_text(self) -> bytes:
        return consent_text(self._setup.session, self._roster_digest, sorted(self._held), self._survivors)
