"""A whole run with every user a node, on generated ratings, but for its report: one preset, in this process.

    python benchmarks/scaling/whole.py PRESET FOLDER [--rounds 3] [--threads 2] [--most-kriged 4096]

FOLDER: as `hierfed data make` writes it. Prints one line of JSON: the seconds of each stage, the milliseconds in which
a personal model is made and judged, the most memory, and the RMSE of all users and of those with more than 4,096
ratings to learn from, of which kriging takes as many as --most-kriged. Baselines are trained when the federation is
done, where `hierfed run` has another process begin them. Hyperparameters are the preset's own, and no lists are
ranked.
"""

import argparse
import json
import math
import resource
from pathlib import Path

from hierfed.experiment import run_experiment
from hierfed.generated.files import read_truth
from hierfed.models import kriging
from hierfed.settings import load_settings

MANY = kriging.MOST_KRIGED


def main() -> None:
    """Run, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=["network", "hierarchical"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-kriged", type=int, default=MANY)
    options = parser.parse_args()
    kriging.MOST_KRIGED = options.most_kriged
    nodes = len(read_truth(options.folder).user_bias)
    changes = {
        "data.source": str(options.folder),
        "protocol": "warm",
        "partition": "users",
        "federation.nodes": nodes,
        "personal_nodes": nodes,
        "rounds": options.rounds,
        "threads": options.threads,
        "select": False,
        "rank_items": False,
    }
    result = run_experiment(load_settings(options.preset, changes)).result
    large = [node for node in result.nodes if node.train_rows > MANY]
    rows = sum(node.test_rows for node in large)
    squares = sum(node.rmse_after**2 * node.test_rows for node in large)
    found = {
        "preset": options.preset,
        "nodes": nodes,
        "ratings": result.data.ratings,
        "seconds": result.seconds.model_dump(),
        "node_milliseconds": 1e3 * result.seconds.personalise / nodes,
        "peak_gbytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "rmse": result.users.rmse_after,
        "large_nodes": len(large),
        "rmse_of_large": math.sqrt(squares / rows) if rows else None,
        "digest": result.digest,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
