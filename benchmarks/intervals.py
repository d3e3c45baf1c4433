"""Do intervals hold for users with few and with many ratings, and how wide are they?

    python benchmarks/intervals.py SOURCE... [--protocols warm,cold,temporal] [--seeds 5] [--set NAME=VALUE ...]

Central 90% intervals of `hierfed run hierarchical` on the test rows, by the user's number of own ratings; the groups
are those of hierfed/models/intervals.py. A line a group: its rows of all seeds, the share of ratings inside as a mean
over rows, and the standard error of that share, clustered by user; where the protocol has one split, of one seed.
`holds` says whether .90 lies within the share ± (.01 + 2.6 standard errors). Then the mean width, and that with one
factor for all groups.
"""

import argparse
import math
from collections import defaultdict

import hierfed
from hierfed.errors import HierfedError
from hierfed.models.intervals import INTERVAL_LEVEL, group_names

SLACK, ERRORS = 0.01, 2.6


def judge(source: str, protocol: str, seeds: int, changes: dict[str, object]) -> None:
    """Print the lines of one source under one protocol."""
    found, wide, plain = defaultdict(list), 0.0, 0.0
    for seed in range(seeds):
        run = hierfed.run("hierarchical", data=source, protocol=protocol, seed=seed, rank_items=False, **changes)
        scales = run.outcome.method.group_scales
        for group in run.result.intervals.groups:
            found[group.own_ratings].append(group)
            total = group.rows * group.mean_width
            wide += total
            plain += total / (scales[group_names().index(group.own_ratings)] if scales else 1.0)
    rows = sum(group.rows for groups in found.values() for group in groups)
    for name in sorted(found, key=group_names().index):
        groups = found[name]
        count = sum(each.rows for each in groups)
        share = sum(each.rows * each.coverage for each in groups) / count
        error = math.sqrt(sum((each.rows * each.standard_error) ** 2 for each in groups)) / count
        if protocol == "temporal":
            error *= math.sqrt(len(groups))
        holds = abs(share - INTERVAL_LEVEL) <= SLACK + ERRORS * error
        print(f"  {protocol}, {name} own ratings: {count:,} rows, {share:.4f} ± {error:.4f}, holds: {holds}")
    print(f"  {protocol}: mean width {wide / rows:.4f}, with one factor {plain / rows:.4f}", flush=True)


def main() -> None:
    """Judge each source under each protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--protocols", default="warm,cold,temporal")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs, NAME=VALUE")
    options = parser.parse_args()
    changes = dict(each.split("=", 1) for each in options.set)
    for source in options.sources:
        print(source, flush=True)
        for protocol in options.protocols.split(","):
            try:
                judge(source, protocol, options.seeds, changes)
            except HierfedError as error:
                print(f"  {protocol}: {error}")


if __name__ == "__main__":
    main()
