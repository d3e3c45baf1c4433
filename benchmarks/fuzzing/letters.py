"""Letters between peers, damaged by one of three: the two others leave it out, stop in one line, or go on."""

from __future__ import annotations

import collections
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzzing import mutations
from fuzzing.messages import ODD, verdict_of
from fuzzing.trial import LONG, SAME, TRACEBACK, Verdict

from hierfed.engines.exchange import Request
from hierfed.engines.peers import letters, rounds
from hierfed.engines.peers.letters import HEARD, HISTORY, MASS, REGROUP, STATEMENT, Inbox, Waiting
from hierfed.engines.peers.rounds import PeerRounds, Terms
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.tables import GRAPHS
from hierfed.ledger.keys import public_text
from hierfed.ledger.shared import PeersOpening, SharedLedger

KINDS = (MASS, STATEMENT, REGROUP, HEARD, HISTORY)
PEERS, ROUNDS, LIAR = 3, 2, 2
WAITING = Waiting(0.0, 0.05)


def hurt_letter(letter: Request, rng: random.Random) -> Request:
    """A letter with one fact, or its arrays, other than they were."""
    facts, arrays = dict(letter.facts), dict(letter.arrays)
    kind, name = rng.randrange(6), rng.choice(list(facts))
    value = facts[name]
    if kind == 0:
        del facts[name]
    elif kind == 1:
        facts[name] = rng.choice([*ODD, None, [], {}, [[1]], "[[1]]", '["a"]', "5", 10**400])
    elif kind == 2 and arrays:
        found = next(iter(arrays.values()))
        odd = [found * float("nan"), found[:-1], found.to(torch.complex128), found.long(), found * 1e300, found[None]]
        arrays = {name: rng.choice(odd) for name in arrays} if rng.random() < 0.8 else {"other": found}
    elif isinstance(value, str):
        facts[name] = mutations.text(value.encode(), rng).decode("utf-8", "replace")
    else:
        facts[name] = rng.choice([-1, 1.5, value + 1, value - 1, 2**40, True, str(value), float("inf")])
    return Request(letter.kind, facts, arrays)


@dataclass
class _Hands:
    """Brings letters from thread to thread; the liar's of one kind are damaged, or made up where it sends none."""

    kind: str
    rng: random.Random
    inboxes: list[Inbox] = field(default_factory=lambda: [Inbox() for _ in range(PEERS)])
    hurt: int = 0

    def send(self, sender: int, to: int, letter: Request) -> bool:
        try:
            if sender == LIAR and self.rng.random() < 0.7:
                self._lie(to, letter)
            else:
                self.inboxes[to].put(sender, letter)
        except ValueError:
            return False
        return True

    def _lie(self, to: int, letter: Request) -> None:
        place = {**letter.facts, "position": 0, "number": 0, "view": int(letter.facts["view"]) + 1}
        line = '{"said":{}}'
        made = {
            REGROUP: Request(REGROUP, {**place, "suspects": "[]", "ends": letter.facts["position"], "line": line}),
            HEARD: Request(HEARD, {**place, "heard": "[0, 1, 2]"}),
            HISTORY: Request(HISTORY, {**letter.facts, "number": 0, "line": line}),
        }.get(self.kind)
        if made is not None:
            self.hurt += 1
            self.inboxes[to].put(LIAR, hurt_letter(made, self.rng))
        elif letter.kind == self.kind:
            self.hurt += 1
            letter = hurt_letter(letter, self.rng)
        self.inboxes[to].put(LIAR, letter)


@dataclass(frozen=True)
class _Hand:
    hands: _Hands
    me: int

    def send(self, peer: int, letter: Request) -> bool:
        return self.hands.send(self.me, peer, letter)

    def reaches(self, peer: int) -> bool:
        return True


def training(kind: str, seed: int) -> tuple[int, list[Verdict]]:
    """The number of damaged letters of this kind in one training, and what became of the two honest peers."""
    names = [f"peer {number}" for number in range(PEERS)]
    keys = [Ed25519PrivateKey.generate() for _ in names]
    opening = PeersOpening(
        training="0" * 16, settings="0" * 64, catalogue="0" * 64, limits=(0.5, 5.0),
        peers={name: public_text(key) for name, key in zip(names, keys, strict=True)},
    )  # fmt: skip
    hands, ends = _Hands(kind, random.Random(f"{kind} {seed}")), dict[int, Verdict]()

    def peer(me: int) -> None:
        terms = Terms(names, me, 2, GRAPHS["exponential"])
        ledger = SharedLedger(opening)
        own = PeerRounds(terms, _Hand(hands, me), hands.inboxes[me], ledger, keys[me], WAITING)
        try:
            for number in range(1, ROUNDS + 1):
                given = Contribution({"a": torch.full((3, 2), float(me), dtype=torch.float64)})
                own.run("rating", number, given, lambda total, number=number: SharedModel(total.arrays, number))  # type: ignore[misc]
            own.end()
            ends[me] = Verdict(SAME)
        except BaseException as error:  # noqa: BLE001 - the outcome itself
            ends[me] = verdict_of(error)

    threads = [threading.Thread(target=peer, args=(number,)) for number in range(PEERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return hands.hurt, [ends[number] for number in range(PEERS) if number != LIAR]


def over_letters(
    first: int, most: int, time_left: Callable[[], bool] = lambda: True
) -> dict[str, collections.Counter[str]]:
    """Counts of outcomes by kind: of the honest peers of each training; see over_kinds."""
    kept: dict[Any, float] = {each: each.LOOK_SECONDS for each in (letters, rounds)}
    counts = {f"{kind}, to peer": collections.Counter[str]() for kind in KINDS}
    damages = collections.Counter[str]()
    try:
        for each in kept:
            each.LOOK_SECONDS = 0.01
        seed = first
        while time_left() and any(damages[kind] < most for kind in KINDS):
            for kind in KINDS:
                if damages[kind] >= most:
                    continue
                hurt, found = training(kind, seed)
                damages[kind] += hurt
                for verdict in found:
                    counts[f"{kind}, to peer"][verdict.outcome] += 1
                    if verdict.outcome in (TRACEBACK, LONG):
                        print(f"{kind}, to peer, training {seed}: {verdict.outcome}: {verdict.told}", flush=True)
            seed += 1
    finally:
        for each, seconds in kept.items():
            each.LOOK_SECONDS = seconds
    print(f"damaged letters: {', '.join(f'{kind} {damages[kind]:,}' for kind in KINDS)}")
    return counts
