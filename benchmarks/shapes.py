"""How near are trees and peers to the server of a star, and what do they send?

    python benchmarks/shapes.py --data FOLDER [--rounds 16] [--nodes 8,64] [--tree-nodes 640] [--edges 32] [--lost 0.2]
        [--exchanges 3,6]
    python benchmarks/shapes.py --data FOLDER --gone-seeds 5
    hierfed data make FOLDER --users 10000 --items 300 --ratings 200000
    python benchmarks/shapes.py --data FOLDER --rounds 1 --nodes "" --tree-nodes 10000 --edges 100

The hierarchical model's preset under protocol warm, seed 0. For peers: the largest difference of any peer's model
from the server's, relative to each array's largest entry, and their bytes against log2 n times the star's. Of 8 peers
also: RMSE of users' models beside the star's, with lost messages and so many exchanges a round (log2 n unless said);
and the users' of 7 peers where the eighth is gone for good after half of the rounds. For trees: whether the digest is
that of a star with exact sums, the share of the star's bytes that comes into the root, and up to 1,000 nodes the
seconds of both stars. `--gone-seeds` prints nothing but the peer that is gone, of so many seeds: beside a star, and
beside a star that the same node leaves with all its sums, which shows what the last sum that peers keep is worth.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.gossip import run_gossip, with_whole_counts
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.peers.absent import AbsentSums
from hierfed.engines.rounds import Round
from hierfed.federated.contract import SharedModel
from hierfed.federated.exact_sum import EXACT_SUM
from hierfed.federated.graphs import exponential
from hierfed.federated.method import Method, Trained
from hierfed.federated.private import PrivateState
from hierfed.federated.push_sum import PushSum
from hierfed.federated.tree import TreeSum
from hierfed.methods import Case, prepare
from hierfed.settings import load_settings

MOST_TIMED = 1_000


def apart(one: SharedModel, other: SharedModel) -> float:
    """The largest difference of two models, relative to the largest entry of each array."""
    found = 0.0
    for name, array in one.arrays.items():
        largest = float(array.double().abs().max()) if array.numel() else 0.0
        if largest:
            found = max(found, float((array.double() - other.arrays[name].double()).abs().max()) / largest)
    return found


def users_rmse(method: Method, nodes: Sequence[Node], trained: Trained) -> float:
    """RMSE on the test rows of these nodes, the first ones of the training, by their users' own models."""
    private = list(trained.private)[: len(nodes)]
    return rmse(nodes, list(method.personalise(trained.shared, nodes, private)))


def without_last(method: Method, nodes: Sequence[Node], rounds: int) -> Trained:
    """The training of peers of which the last is gone for good after half of the rounds; its last sum stays."""
    count = len(nodes)
    copies, private = [method.start()] * count, list[PrivateState | None]([None] * count)
    absent = [AbsentSums(method) for _ in nodes]
    while copies[0].round < rounds:
        if copies[0].round == rounds // 2:
            copies = copies[: count - 1]
        given, members = [], range(len(copies))
        for place, (copy, node) in enumerate(zip(copies, nodes, strict=False)):
            contribution, private[place] = next(iter(method.contribute(copy, [node], [private[place]])))
            given.append(absent[place].outgoing(contribution, copy, members))
        totals = PushSum(exponential).agree(given, copies[0].round).totals
        if copies[0].round < 0:
            totals = [with_whole_counts(total) for total in totals]
        totals = [own.total(total) for own, total in zip(absent, totals, strict=False)]
        copies = [method.combine(copy, total) for copy, total in zip(copies, totals, strict=True)]
        for own in absent[: len(copies)]:
            own.finish()
    return Trained(copies[0], private[: count - 1])


@dataclass(frozen=True)
class Leaving:
    """Every node until a round, and all but the last one after it. See hierfed.federated.participation."""

    after: int

    def places(self, round_number: int, nodes: int) -> np.ndarray:
        """The places of the nodes in a round."""
        return np.arange(nodes if round_number <= self.after else nodes - 1)


def print_gone(data: str, seeds: int, rounds: int, count: int = 8) -> None:
    """A line for each seed, and one for all: the RMSE of the other users where the last of 8 peers is gone for good."""
    found = list[tuple[float, float, float]]()
    for seed in range(seeds):
        method, nodes = federation(data, count, seed)
        leaving = Round(participation=Leaving(rounds // 2))  # type: ignore[arg-type]
        star, left = (run_rounds(method, list(nodes), rounds, how=how) for how in (Round(), leaving))
        trained = star, left, without_last(method, nodes, rounds)
        whole, of_star, of_peers = (users_rmse(method, nodes[:-1], each) for each in trained)
        found.append((of_peers - whole, of_star - whole, of_peers - of_star))
        print(f"seed {seed}: star {whole:.5f}, star that it leaves {of_star:.5f}, peers {of_peers:.5f}", flush=True)
    mean, spread = np.mean(found, 0), np.std(found, 0, ddof=1)
    told = zip(("peers - star", "star that it leaves - star", "peers - star that it leaves"), mean, spread, strict=True)
    print("; ".join(f"{name}: {of_mean:+.5f} ± {of_spread:.5f}" for name, of_mean, of_spread in told))


def federation(data: str, count: int, seed: int = 0) -> tuple[Method, list[Node]]:
    """The method of the preset, and so many nodes."""
    settings = load_settings(
        "hierarchical", {"source": data, "protocol": "warm", "nodes": count, "threads": 1, "seed": seed}
    )
    dataset = load_dataset(settings)
    nodes, _ = assign(dataset, divide(dataset, settings), settings)
    return prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method, list(nodes)


def print_tree(method: Method, nodes: list[Node], rounds: int, edges: int) -> None:
    """A line for a tree, and one for the cost of exact sums at a star."""
    rule = TreeSum(-(-len(nodes) // edges))
    told: list[FinishedRound] = []
    of_tree: list[FinishedRound] = []
    exact = run_rounds(method, nodes, rounds, told.append, Round(EXACT_SUM))
    found = run_rounds(method, nodes, rounds, of_tree.append, Round(rule, topology="tree"))
    same = "the exact star's digest" if found.shared.digest() == exact.shared.digest() else "ANOTHER DIGEST"
    sent = sum(each.bytes_up for each in told)
    into = sum(each.bytes_up for each in of_tree) - sent
    print(f"tree, {len(nodes)} nodes under {edges} edges: {same}; into the root {into:,} bytes,", end=" ")
    print(f"{sent / into:.2f} times fewer than the star's {sent:,}", flush=True)
    if len(nodes) > MOST_TIMED:
        return
    in_order: list[FinishedRound] = []
    # Nodes one by one: many small ones would be added up together, in another order.
    run_rounds(method, list(nodes), rounds, in_order.append)
    seconds, slow = (sum(each.seconds for each in star) for star in (in_order, told))
    print(f"star of {len(nodes)}: sums in order {seconds:.1f} s, exact ones {slow:.1f} s", flush=True)


def main() -> None:
    """Print a line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--nodes", default="8,64")
    parser.add_argument("--tree-nodes", type=int, default=640)
    parser.add_argument("--edges", type=int, default=32)
    parser.add_argument("--lost", type=float, default=0.2)
    parser.add_argument("--exchanges", default="")
    parser.add_argument("--gone-seeds", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.gone_seeds:
        print_gone(options.data, options.gone_seeds, options.rounds)
        return
    counts = [(int(each), False) for each in options.nodes.split(",") if each]
    for count, tree in [*counts, *([(options.tree_nodes, True)] if options.tree_nodes else [])]:
        method, nodes = federation(options.data, count)
        if tree:
            print_tree(method, nodes, options.rounds, options.edges)
            continue
        star_rounds: list[FinishedRound] = []
        star = run_rounds(method, nodes, options.rounds, star_rounds.append)
        sent = sum(each.bytes_up for each in star_rounds)
        turns = (count - 1).bit_length()
        told: list[FinishedRound] = []
        peers = run_gossip(method, nodes, options.rounds, told.append, Round(PushSum(exponential), topology="gossip"))
        worst, bytes_up = max(apart(star.shared, copy) for copy in peers.copies), sum(each.bytes_up for each in told)
        print(
            f"gossip, {count} peers: models {worst:.1e} apart at the most; bytes {bytes_up / sent / turns:.4f} x",
            end=" ",
        )
        print(f"log2 n x the star's {sent:,}", flush=True)
        if count > 8:
            continue
        before = users_rmse(method, nodes, star)
        for exchanges in [int(each) for each in options.exchanges.split(",") if each] or [turns]:
            lossy = Round(PushSum(exponential, exchanges, options.lost), topology="gossip")
            after = users_rmse(method, nodes, run_gossip(method, nodes, options.rounds, how=lossy))
            told_of = f"{options.lost:.0%} lost, {exchanges} exchanges"
            print(f"gossip, {count} peers, {told_of}: {after:.5f}, star {before:.5f}", flush=True)
        left = nodes[:-1]
        whole, fewer = (
            users_rmse(method, left, star),
            users_rmse(method, left, without_last(method, nodes, options.rounds)),
        )
        print(f"gossip, {count} peers, one gone after half of the rounds: {fewer:.5f} on the others' users, ", end="")
        print(f"star {whole:.5f}", flush=True)


if __name__ == "__main__":
    main()
