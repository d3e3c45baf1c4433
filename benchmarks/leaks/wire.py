"""What a federation's bytes tell: all between nodes and server are kept, and looked through for what none may hold."""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from leaks.exact_counts import exact_counts
from safetensors.torch import load

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.deployment.contents import JUDGED_SUMS
from hierfed.engines.in_process import run_rounds
from hierfed.engines.stages import after_earlier_stages
from hierfed.methods import METHODS, Case, prepare
from hierfed.settings import Settings

BEGINS = b'{"__metadata__":{"order":'
LONGEST_HEADER = 1 << 20
ROUNDING = 1e-12
# Relative: rounding of sums, and of numbers of 32 bits.
CLOSE = {torch.float64: 1e-11, torch.float32: 2e-7}
# A number with so few digits is the sum or the square of anything.
PLAIN = 2.0**-6


class Listener:
    """Hands bytes on between a node and its server, and keeps all, by connection. port: where the node calls."""

    def __init__(self, server_port: int):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port, self._server_port = self._listener.getsockname()[1], server_port
        self._sent: list[list[bytes]] = []
        self._received: list[list[bytes]] = []
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> tuple[list[bytes], list[bytes]]:
        """What the node has sent and what it has received, each as the bytes of its connections."""
        self._closed.set()
        self._listener.close()
        return [b"".join(parts) for parts in self._sent], [b"".join(parts) for parts in self._received]

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sent.append([])
            self._received.append([])
            threading.Thread(target=self._pump, args=(client, self._sent[-1], self._received[-1]), daemon=True).start()

    def _pump(self, client: socket.socket, sent: list[bytes], received: list[bytes]) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        with client, server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, (server, sent))
            ready.register(server, selectors.EVENT_READ, (client, received))
            while True:
                for key, _ in ready.select():
                    other, kept = key.data
                    try:
                        content = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                        kept.append(content)
                        other.sendall(content)
                    except OSError:
                        # One of the two was killed.
                        return
                    if not content:
                        return


def blocks(stream: bytes) -> Iterator[dict[str, torch.Tensor]]:
    """The arrays of each message in a stream of bytes, read by nothing of the package's own."""
    at = stream.find(BEGINS)
    while at >= 0:
        size = int.from_bytes(stream[at - 8 : at], "little")
        if at >= 8 and size < LONGEST_HEADER:
            header = json.loads(stream[at : at + size])
            end = max((each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"), default=0)
            yield load(stream[at - 8 : at + size + end])
        at = stream.find(BEGINS, at + 1)


@dataclass(frozen=True)
class Kept:
    """What no message may tell.

    items: how many the catalogue has. raters: of each item, by node, [nodes, items].
    twins: pairs of places of items under the threshold that differ in nothing but what was said of them, and in how
    many said it. numbers: their ratings, sums, squares and deviations from means, by node and over all. users: ids.
    """

    items: int
    raters: np.ndarray
    twins: Sequence[tuple[int, int]]
    numbers: np.ndarray
    users: Sequence[str]


def numbers_of(rare: Sequence[np.ndarray], means: Collection[float]) -> np.ndarray:
    """All that could be told of some ratings: each, their sum, squares, and deviations from the given means.

    rare: the ratings of an item on a node, or on all nodes.
    """
    found = []
    for ratings in rare:
        for mean in (0.0, *means):
            away = ratings.astype(np.float64) - mean
            found += [*away, away.sum(), *away**2, (away**2).sum(), away.mean()]
    numbers = np.unique(np.abs(found))
    return numbers[(numbers > PLAIN) & (np.abs(numbers / PLAIN - np.round(numbers / PLAIN)) > 1e-6)]


def drawn(settings: Settings, catalogue: Catalogue, limits: tuple[float, float]) -> list[torch.Tensor]:
    """Arrays that a model begins with, and that follow from the seed: those of a federation of other ratings."""
    if settings.privacy.privacy_unit != "none":
        return []
    rng, users, each = np.random.default_rng(99), 40, len(catalogue) // 2
    item = np.concatenate([np.sort(rng.permutation(len(catalogue))[:each]) for _ in range(users)])
    value = rng.integers(1, 11, len(item)).astype(np.float32) / 2
    rows = Ratings(np.repeat(np.arange(users), each).astype(np.int32), item.astype(np.int32), value)
    others = [Node(0, "another", rows, rows.take(np.arange(0)))]
    method = prepare(after_earlier_stages(Case(settings, catalogue, limits), others)).method
    found = list(method.start().arrays.values())
    if settings.method == "hierarchical":
        found.append(run_rounds(method, others, 0).shared.arrays["item_mean"])
    return found


@dataclass
class Told:
    """What was found. messages, entries: that held arrays, and how many numbers in them.

    counts: arrays of exact counts of raters that nodes sent. found: what must not be there, a line each.
    """

    messages: int = 0
    entries: int = 0
    counts: int = 0
    found: list[str] = field(default_factory=list)


def look(
    method: str,
    kept: Kept,
    sent: Iterable[bytes],
    received: Iterable[bytes],
    public: Sequence[torch.Tensor] = (),
    coded: bool = False,
) -> Told:
    """Go over the bytes that nodes have sent and received, by message or by connection.

    public: arrays that follow from the seed alone.
    coded: that steps or a rule may send what is declared under other names.
    """
    told = Told()
    sums = [JUDGED_SUMS.keys(), *(each.arrays.keys() for each in METHODS[method].sums)]
    models = {name for each in METHODS[method].models for name in each.arrays}
    # The sum of a private prior has noise for every item, whoever rated it.
    twins = () if method == "private_prior" else kept.twins
    for stream in sent:
        _raw(stream, kept, "sent", told)
        for arrays in blocks(stream):
            told.messages += 1
            if not coded and not any(arrays.keys() <= names for names in sums):
                told.found.append(f"sent: {', '.join(arrays)}: not declared")
            for name, array in arrays.items():
                if array.shape == (kept.items,) and (kept.raters == array.numpy()).all(1).any():
                    told.counts += 1
                    told.entries += array.numel()
                else:
                    _array(f"sent: {name}", array, kept, twins, told)
    seen = list[tuple[str, dict[str, torch.Tensor]]]()
    for stream in received:
        _raw(stream, kept, "received", told)
        for arrays in blocks(stream):
            seen.append(("received", {name.rpartition(".")[2]: array for name, array in arrays.items()}))
            told.messages += 1
            undeclared = {name.rpartition(".")[2] for name in arrays} - models
            if undeclared:
                told.found.append(f"received: {', '.join(undeclared)}: not declared")
            for name, array in arrays.items():
                if not any(torch.equal(array, each) for each in public):
                    _array(f"received: {name}", array, kept, twins, told)
    # A setup repeats finished models of several stages, whose names meet; each is also seen in its last round.
    told.found += exact_counts(seen, kept.raters)
    return told


def _raw(stream: bytes, kept: Kept, way: str, told: Told) -> None:
    """Numbers of 64 bits and ids of users, anywhere."""
    told.found.extend(f"{way}: a user's id" for user in kept.users if user.encode() in stream)
    for number in kept.numbers:
        if any(np.float64(sign * number).tobytes() in stream for sign in (1, -1)):
            told.found.append(f"{way}: {number:.6g}")


def _array(name: str, array: torch.Tensor, kept: Kept, twins: Sequence[tuple[int, int]], told: Told) -> None:
    """Numbers near those of rare items, and rows of twins that differ by more than rounding."""
    told.entries += array.numel()
    if array.dtype in CLOSE and array.numel():
        values = np.sort(array.abs().double().flatten().numpy())
        last, right = len(values) - 1, np.searchsorted(values, kept.numbers)
        above, below = (np.abs(values[each.clip(0, last)] - kept.numbers) for each in (right, right - 1))
        near = np.minimum(above, below) <= CLOSE[array.dtype] * kept.numbers
        told.found.extend(f"{name}: {number:.6g}" for number in kept.numbers[near])
    for axis, size in enumerate(array.shape):
        if size == kept.items:
            rows = array.movedim(axis, 0).double()
            most = ROUNDING * float(rows.abs().max())
            told.found.extend(
                f"{name}: items {one} and {two} differ"
                for one, two in twins
                if float((rows[one] - rows[two]).abs().max()) > most
            )
