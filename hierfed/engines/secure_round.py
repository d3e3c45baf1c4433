"""One secure sum over messages: the server leads it through its phases, and nodes answer in each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hierfed.engines.exchange import REFUSAL, Fact, Member, Reply, Request
from hierfed.engines.replies import NodeAnswer, Refusal
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.privacy.secure_sum.aggregator import Aggregator
from hierfed.privacy.secure_sum.bounds import NO_WORDS, public_bounds
from hierfed.privacy.secure_sum.client import Client
from hierfed.privacy.secure_sum.encoding import plan
from hierfed.privacy.secure_sum.messages import (
    Consents,
    FromNode,
    FromServer,
    Inbox,
    Roster,
    Survivors,
    decode,
    decode_as,
    encode,
)
from hierfed.privacy.secure_sum.refusals import Refused, SecureSumError
from hierfed.privacy.secure_sum.setup import Setup, Signer, VerifyKey

# The steps after the request for a contribution, in order; each goes to the nodes that are left.
SHARE, MASK, CONSENT, UNMASK = "share", "mask", "consent", "unmask"
STEPS = (SHARE, MASK, CONSENT, UNMASK)
ROUND = "round"
MESSAGE, DRAWN, HALVING = "message", "drawn", "halving"
THE_SUM = "the sum itself"

Ask = Callable[[Callable[[Member], Request | None], int], list[NodeAnswer]]


@dataclass(frozen=True)
class SecureGroup:
    """The nodes that add securely.

    keys: each node's public key by its number.
    threshold, colluding: see Setup.
    parts: the groups within it, each of which adds up a sum of its own in rounds; empty for one sum of all.
    halvings: the two halves of each round of a search; see hierfed.federated.halves. Empty where there is none.
    """

    keys: Mapping[int, VerifyKey]
    threshold: int
    colluding: int
    parts: tuple[SecureGroup, ...] = ()
    halvings: tuple[tuple[SecureGroup, SecureGroup], ...] = ()

    def adding(self, number: int, request: Request) -> SecureGroup:
        """The nodes with which the node of this number adds up the sum of this request."""
        parts = self.parts if request.kind == ROUND else ()
        if HALVING in request.facts:
            parts = self.halvings[int(request.facts[HALVING])]
        own = [part for part in parts if number in part.keys]
        return own[0] if own else self

    def error(self, shapes: Mapping[str, Sequence[int]], words: Mapping[str, int] = NO_WORDS) -> float:
        """The largest error of an entry of a sum of arrays of these shapes; see setup."""
        encoding = plan(shapes, public_bounds(shapes, words), len(self.keys))
        return max((encoding.error(name) for name in shapes), default=0.0)

    def setup(
        self, request: Request, shapes: Mapping[str, Sequence[int]], words: Mapping[str, int] = NO_WORDS
    ) -> Setup:
        """The terms of a sum of arrays of these shapes; words: the bits of those that are words.

        They include the whole request: nodes with different requests or models cannot add to the same sum.
        """
        encoding = plan(shapes, public_bounds(shapes, words), len(self.keys))
        return Setup(_identity(request), self.keys, encoding, self.threshold, self.colluding)


@dataclass(frozen=True)
class SecureOutcome:
    """The result of a secure sum.

    total: None if too few nodes stayed to the end.
    contributors: the numbers of the nodes in the sum.
    refused: the answers that were not used.
    bytes_up, bytes_down: of the protocol's messages, without the request.
    names: of the nodes that answered, by number.
    """

    total: Contribution | None
    contributors: tuple[int, ...]
    refused: tuple[Refusal, ...]
    bytes_up: int
    bytes_down: int
    names: Mapping[int, str] = field(default_factory=dict)


def sum_securely(
    ask: Ask,
    request: Request,
    secure_group: SecureGroup,
    shapes: Mapping[str, Sequence[int]],
    words: Mapping[str, int] = NO_WORDS,
) -> SecureOutcome:
    """Ask for contributions of these shapes, and get only their sum.

    words: the bits of the arrays that are words.
    ask: sends each member its request, if it has one, waits for this many answers at least, and gives them.
    """
    setup = secure_group.setup(request, shapes, words)
    exchange = _SumExchange(ask, Aggregator(setup), setup.threshold)
    try:
        exchange.gather(lambda member: request if member.number in setup.keys else None)
        roster = exchange.server.roster()
        exchange.send(SHARE, roster, [each.sender for each in roster.advertised])
        inboxes = exchange.server.inboxes()
        exchange.gather(lambda member: exchange.request(MASK, inboxes.get(member.number)))
        survivors = exchange.server.announce()
        exchange.send(CONSENT, survivors, survivors.nodes)
        consents = exchange.server.consents()
        exchange.send(UNMASK, consents, [each.sender for each in consents.signed])
        total, contributors = exchange.server.total(), exchange.server.survivors
    except SecureSumError as error:
        exchange.refused.append(Refusal(THE_SUM, str(error)))
        total, contributors = None, ()
    return SecureOutcome(
        total, contributors, tuple(exchange.refused), exchange.bytes_up, exchange.bytes_down, exchange.names
    )


class _SumExchange:
    """A secure sum in progress: sends messages, counts their bytes, and refuses answers that are no messages."""

    def __init__(self, ask: Ask, server: Aggregator, threshold: int):
        self._ask, self.server, self._threshold = ask, server, threshold
        self.refused: list[Refusal] = []
        self.bytes_up = self.bytes_down = 0
        self.names: dict[int, str] = {}

    def gather(self, make: Callable[[Member], Request | None]) -> None:
        for answer in self._ask(make, self._threshold):
            self.names[answer.number] = answer.name
            try:
                self.server.receive(self._read(answer))
            except Refused as error:
                self.refused.append(Refusal(answer.name, str(error)))

    def send(self, kind: str, message: FromServer, to: Collection[int]) -> None:
        self.gather(lambda member: self.request(kind, message) if member.number in to else None)

    def request(self, kind: str, message: FromServer | None) -> Request | None:
        if message is None:
            return None
        data = encode(message)
        self.bytes_down += len(data)
        return Request(kind, {MESSAGE: data})

    def _read(self, answer: NodeAnswer) -> FromNode:
        if answer.reply is None:
            raise Refused(f"failed: {answer.error}")
        facts = answer.reply.facts
        if REFUSAL in facts:
            raise Refused(str(facts[REFUSAL]))
        data = facts.get(MESSAGE)
        if not isinstance(data, bytes) or answer.reply.contribution.arrays:
            raise Refused("it answers with something else than one message of a secure sum")
        self.bytes_up += len(data)
        message = decode(data)
        if not isinstance(message, FromNode) or message.sender != answer.number:
            raise Refused("it speaks for another node")
        return message


class SecureNode:
    """A node's side of secure sums; it takes part in one sum at a time.

    number, signer: the node's.
    """

    def __init__(self, number: int, signer: Signer, secure_group: SecureGroup):
        self._number, self._signer, self._secure_group = number, signer, secure_group
        self._client: Client | None = None

    def begin(self, request: Request, contribution: Contribution) -> Reply:
        """Keep a contribution for the sum of this request; the reply holds keys, and nothing of the contribution."""
        self._client = None
        shapes = {name: tuple(array.shape) for name, array in contribution.arrays.items()}
        try:
            group = self._secure_group.adding(self._number, request)
            setup = group.setup(request, shapes, contribution.words)
            self._client = Client(setup, self._number, self._signer, contribution)
        except SecureSumError as error:
            return _refusal(error)
        return Reply({MESSAGE: encode(self._client.advertise())})

    def answer(self, request: Request) -> Reply:
        """The answer to any of STEPS; after a refusal, the node is out of this sum."""
        client, self._client = self._client, None
        if client is None:
            return Reply({REFUSAL: "takes no part in this sum"})
        try:
            answer = _step(client, request.kind, request.facts.get(MESSAGE))
        except SecureSumError as error:
            return _refusal(error)
        self._client = client
        return Reply({MESSAGE: encode(answer)})


def _step(client: Client, kind: str, data: Fact | None) -> FromNode:
    if not isinstance(data, bytes):
        raise Refused("the server's message cannot be read")
    if kind == SHARE:
        return client.share(decode_as(Roster, data))
    if kind == MASK:
        return client.mask(decode_as(Inbox, data))
    if kind == CONSENT:
        return client.consent(decode_as(Survivors, data))
    return client.unmask(decode_as(Consents, data))


def _refusal(error: SecureSumError) -> Reply:
    return Reply({REFUSAL: str(error)})


def _identity(request: Request) -> bytes:
    """A digest of 32 bytes of a request with its arrays; DRAWN in its facts makes it unlike any other's."""
    content = repr((request.kind, sorted(request.facts.items()), SharedModel(request.arrays).digest()))
    return hashlib.sha256(content.encode()).digest()
