"""How near are trees and peers to the server of a star, and what do they send?

    python benchmarks/shapes.py --data FOLDER [--rounds 16] [--nodes 8,64] [--tree-nodes 640] [--edges 32] [--lost 0.2]

The hierarchical model's preset under protocol warm, seed 0. For peers: the largest difference of any peer's model
from the server's, relative to each array's largest entry, and their bytes against log2 n times the star's; with lost
messages and log2 n exchanges alone, RMSE of users' models beside the star's. For trees: the same difference, and the
share of the star's bytes that comes into the root.
"""

import argparse

import torch
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.engines.gossip import run_gossip
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.contract import SharedModel
from hierfed.federated.graphs import exponential
from hierfed.federated.push_sum import PushSum
from hierfed.federated.rules import OPEN_SUM
from hierfed.federated.tree import TreeSum, edges_of
from hierfed.methods import Case, prepare
from hierfed.settings import load_settings


def apart(one: SharedModel, other: SharedModel) -> float:
    """The largest difference of two models, relative to the largest entry of each array."""
    found = 0.0
    for name, array in one.arrays.items():
        largest = float(array.double().abs().max()) if array.numel() else 0.0
        if largest:
            found = max(found, float((array.double() - other.arrays[name].double()).abs().max()) / largest)
    return found


def main() -> None:
    """Print a line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--nodes", default="8,64")
    parser.add_argument("--tree-nodes", type=int, default=640)
    parser.add_argument("--edges", type=int, default=32)
    parser.add_argument("--lost", type=float, default=0.2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = [(int(each), False) for each in options.nodes.split(",") if each]
    for count, tree in [*counts, *([(options.tree_nodes, True)] if options.tree_nodes else [])]:
        changes = {"source": options.data, "protocol": "warm", "nodes": count, "threads": 1}
        settings = load_settings("hierarchical", changes)
        dataset = load_dataset(settings)
        nodes, _ = assign(dataset, divide(dataset, settings), settings)
        method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
        # Nodes one by one: many small ones would be added up together, in another order.
        star_rounds: list[FinishedRound] = []
        star = run_rounds(method, list(nodes), options.rounds, star_rounds.append)
        sent = sum(each.bytes_up for each in star_rounds)
        if tree:
            rule = TreeSum(OPEN_SUM, -(-count // options.edges))
            found = run_rounds(method, list(nodes), options.rounds, how=Round(rule, topology="tree"))
            edges = len(edges_of(count, rule.fan_out))
            print(
                f"tree, {count} nodes under {edges} edges: model {apart(star.shared, found.shared):.1e} apart;", end=" "
            )
            print(f"into the root 1/{count / edges:.0f} of the star's {sent:,} bytes", flush=True)
            continue
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
        lossy = Round(PushSum(exponential, turns, options.lost), topology="gossip")
        lost = run_gossip(method, nodes, options.rounds, how=lossy)
        before, after = (
            rmse(nodes, list(method.personalise(each.shared, nodes, each.private))) for each in (star, lost)
        )
        print(
            f"gossip, {count} peers, {options.lost:.0%} lost, {turns} exchanges: {after:.5f}, star {before:.5f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
