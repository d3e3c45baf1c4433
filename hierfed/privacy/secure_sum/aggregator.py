"""The server's side of one secure sum: a state machine without any transport."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto

import numpy as np

from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum import shamir
from hierfed.privacy.secure_sum.agreement import KeyPair, commitment, pair_mask_key, self_mask_key
from hierfed.privacy.secure_sum.messages import (
    Advertisement,
    Box,
    Consent,
    Consents,
    FromNode,
    Inbox,
    MaskedInput,
    Message,
    Roster,
    SealedShares,
    Survivors,
    Unmasking,
    consent_text,
)
from hierfed.privacy.secure_sum.refusals import Refused, TooFewNodes
from hierfed.privacy.secure_sum.setup import Setup
from hierfed.privacy.secure_sum.streams import KEY_BYTES, MaskStream


class Phase(IntEnum):
    """The server's phases, in order; each is named for the messages that it waits for."""

    ADVERTISE = auto()
    SHARE = auto()
    UPLOAD = auto()
    CONSENT = auto()
    UNMASK = auto()
    OVER = auto()


class Aggregator:
    """The server in one round: it receives each phase's messages; each later method ends a phase.

    It adds masked vectors as they come and keeps only their sum. It learns only the masks of that sum. A phase that
    cannot end ends the round.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.phase = Phase.ADVERTISE
        self._advertised: dict[int, Advertisement] = {}
        self._roster_digest = b""
        self._shared: dict[int, SealedShares] = {}
        self._sum = setup.encoding.ring.zeros()
        self._survivors: set[int] = set()
        self._consents: dict[int, Consent] = {}
        self._unmasking: dict[int, Unmasking] = {}

    @property
    def survivors(self) -> tuple[int, ...]:
        """The nodes whose vectors are in the sum so far, ascending."""
        return tuple(sorted(self._survivors))

    def receive(self, message: Message) -> None:
        """Take a node's message; raises Refused for one that does not belong here, which changes nothing."""
        if not isinstance(message, FromNode):
            raise Refused(f"a server is sent no {type(message).__name__}")
        if message.session != self._setup.session:
            raise Refused(f"node {message.sender} answers another round, or other terms")
        match message:
            case Advertisement():
                self._expect(message, Phase.ADVERTISE, self._setup.keys, self._advertised)
                if not self._setup.signed(message.sender, message.signature, message.signed_text()):
                    raise Refused(f"the keys of node {message.sender} are not signed by it")
                self._advertised[message.sender] = message
            case SealedShares():
                self._expect(message, Phase.SHARE, self._advertised, self._shared)
                if {box.peer for box in message.boxes} != self._advertised.keys() - {message.sender}:
                    raise Refused(f"node {message.sender} sent shares to others than those on the roster")
                self._shared[message.sender] = message
            case MaskedInput():
                self._expect(message, Phase.UPLOAD, self._shared, self._survivors)
                ring = self._setup.encoding.ring
                if len(message.vector) != 8 * ring.words:
                    raise Refused(f"node {message.sender} sent a vector of {len(message.vector)} bytes")
                ring.add(self._sum, np.frombuffer(message.vector, "<u8").astype(np.uint64, copy=False))
                self._survivors.add(message.sender)
            case Consent():
                self._expect(message, Phase.CONSENT, self._survivors, self._consents)
                text = consent_text(
                    self._setup.session, self._roster_digest, sorted(self._shared), sorted(self._survivors)
                )
                if not self._setup.signed(message.sender, message.signature, text):
                    raise Refused(f"node {message.sender} signed something else than it was told")
                self._consents[message.sender] = message
            case Unmasking():
                self._expect(message, Phase.UNMASK, self._consents, self._unmasking)
                seeds, mask_keys = ({share.owner for share in of} for of in (message.seeds, message.mask_keys))
                if seeds != self._survivors or mask_keys != self._shared.keys() - self._survivors:
                    raise Refused(f"node {message.sender} sent other shares than those it was to send")
                self._unmasking[message.sender] = message

    def roster(self) -> Roster:
        """End round 0: the message to each node that advertised. Raises TooFewNodes below the threshold."""
        self._end(Phase.ADVERTISE, len(self._advertised))
        roster = Roster(self._setup.session, tuple(self._advertised[node] for node in sorted(self._advertised)))
        self._roster_digest = roster.digest()
        return roster

    def inboxes(self) -> dict[int, Inbox]:
        """End round 1: the message to each node that shared, by node. Raises TooFewNodes below the threshold."""
        self._end(Phase.SHARE, len(self._shared))
        boxes: dict[int, list[Box]] = {node: [] for node in sorted(self._shared)}
        for sender in sorted(self._shared):
            for box in self._shared[sender].boxes:
                if box.peer in boxes:
                    boxes[box.peer].append(Box(sender, box.data))
        return {node: Inbox(self._setup.session, tuple(found)) for node, found in boxes.items()}

    def announce(self) -> Survivors:
        """End round 2: the message to each node that sent its vector. Raises TooFewNodes below the threshold."""
        self._end(Phase.UPLOAD, len(self._survivors))
        return Survivors(self._setup.session, self.survivors)

    def consents(self) -> Consents:
        """End round 3: the message to each node that signed. Raises TooFewNodes below the threshold."""
        self._end(Phase.CONSENT, len(self._consents))
        return Consents(self._setup.session, tuple(self._consents[node] for node in sorted(self._consents)))

    def total(self) -> Contribution:
        """End round 4: the sum of the survivors' contributions.

        Raises TooFewNodes below the threshold, Refused for shares that do not give the secret, SecureSumError for a sum
        that values within the bounds cannot have.
        """
        self._end(Phase.UNMASK, len(self._unmasking))
        session, ring = self._setup.session, self._setup.encoding.ring
        holders = sorted(self._unmasking)[: self._setup.threshold]
        weights = shamir.weights([self._setup.points[node] for node in holders])
        seeds, mask_keys = self._shares(holders)
        stream = MaskStream(ring.words)
        for node in self.survivors:
            seed = _rebuilt(node, seeds[node], weights)
            if commitment(seed, session, node) != self._shared[node].commitment:
                raise Refused(f"the seed of node {node} does not come out of the shares: a node sent wrong ones")
            ring.subtract(self._sum, stream.expand(self_mask_key(seed, session, node)))
        for node, shares in mask_keys.items():
            pair = KeyPair(_rebuilt(node, shares, weights))
            if pair.public != self._advertised[node].masking_key:
                raise Refused(f"the mask key of node {node} does not come out of the shares: a node sent wrong ones")
            for peer in self.survivors:
                key = pair_mask_key(pair, self._advertised[peer].masking_key, session, node, peer)
                (ring.subtract if peer > node else ring.add)(self._sum, stream.expand(key))
        return self._setup.encoding.decode(self._sum, len(self._survivors))

    def _expect(self, message: FromNode, phase: Phase, senders: Iterable[int], have: Iterable[int]) -> None:
        """Raise Refused for a message in another phase, of an unexpected sender, or a second one."""
        if self.phase is not phase:
            raise Refused(f"node {message.sender} sent a message of phase {phase.name} in phase {self.phase.name}")
        if message.sender not in senders:
            raise Refused(f"node {message.sender} is not among those that this phase waits for")
        if message.sender in have:
            raise Refused(f"node {message.sender} sent a second message in phase {phase.name}")

    def _end(self, phase: Phase, count: int) -> None:
        due, self.phase = self.phase, Phase.OVER
        if due is not phase:
            raise Refused(f"phase {phase.name} cannot end in phase {due.name}")
        if count < self._setup.threshold:
            raise TooFewNodes(
                f"only {count} of {len(self._setup.keys)} nodes are left in phase {phase.name}, "
                f"and the threshold is {self._setup.threshold}: no sum"
            )
        self.phase = Phase(phase + 1)

    def _shares(self, holders: list[int]) -> tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]]:
        """The shares of seeds and of mask keys that these nodes sent, by owner and by the holder's point."""
        seeds: dict[int, dict[int, int]] = {node: {} for node in self.survivors}
        mask_keys: dict[int, dict[int, int]] = {node: {} for node in sorted(self._shared.keys() - self._survivors)}
        for holder in holders:
            point, sent = self._setup.points[holder], self._unmasking[holder]
            for found, shares in ((seeds, sent.seeds), (mask_keys, sent.mask_keys)):
                for share in shares:
                    found[share.owner][point] = share.value
        return seeds, mask_keys


def _rebuilt(owner: int, shares: dict[int, int], weights: dict[int, int]) -> bytes:
    secret = shamir.recombine(shares, weights)
    if secret >= 2 ** (8 * KEY_BYTES):
        raise Refused(f"a secret of node {owner} does not come out of the shares: a node sent wrong ones")
    return secret.to_bytes(KEY_BYTES, "little")
