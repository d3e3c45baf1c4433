"""What does a server learn from the sums of groups that it does not learn from the sum of all nodes?

    python benchmarks/group_sums.py --data FOLDER [--nodes 64] [--groups 4 8 16 32] [--seeds 5]

Under secure sums a server sees the sum over all nodes, of items with enough raters. With `federation.groups` it sees
the sum of each group too. Where a single user of a group has rated an item, the group's sum for it is that user's. A
line for each number of groups: the users in a group, and of the items in its sums the share with one rater in the
group and the share with fewer raters than the threshold; 1 group is the sum of all. Protocol warm, means over groups
and seeds.
"""

from __future__ import annotations

import argparse

import numpy as np

from hierfed.data.division import allocate, load_dataset
from hierfed.federated.groups import groups_of
from hierfed.settings import load_settings


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    found: dict[int, list[tuple[float, float, float]]] = {groups: [] for groups in (1, *options.groups)}
    for seed in range(options.seeds):
        base = {"protocol": "warm", "partition": "users", "nodes": options.nodes, "personal_nodes": options.nodes}
        settings = load_settings("hierarchical", {**base, "seed": seed, "data.source": options.data})
        allocation = allocate(load_dataset(settings), settings)
        items, threshold = len(allocation.dataset.catalogue), settings.factors.min_raters
        raters = np.array([np.bincount(node.train.item, minlength=items) for node in allocation.nodes])
        users = np.array([len(np.unique(node.train.user)) for node in allocation.nodes])
        sent = raters.sum(0) >= threshold
        for groups, lines in found.items():
            for part in groups_of(len(raters), groups, seed):
                own = raters[part].sum(0)[sent]
                own = own[own > 0]
                lines.append((float(users[part].sum()), float((own == 1).mean()), float((own < threshold).mean())))
    print("| groups | users in a group | items with one rater in it | fewer than the threshold |\n|---|---|---|---|")
    for groups, lines in found.items():
        mean = np.mean(lines, 0)
        print(f"| {groups} | {mean[0]:.0f} | {mean[1]:.1%} | {mean[2]:.1%} |")


if __name__ == "__main__":
    main()
