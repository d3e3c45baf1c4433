"""What do the server's checks cost an honest federation? `python benchmarks/checks.py --data FOLDER`

A federation in one process: nodes contribute, the server looks at each contribution, adds and combines. Prints the CPU
seconds of all that but the checks, and what the checks add. Both are of the same run, since two runs differ by more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.replies import look_by
from hierfed.engines.stages import after_earlier_stages
from hierfed.federated.contract import ordered_sum
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

NODES = 8
PRESETS = {"item_biases": {}, "network": {"rounds": 4}, "hierarchical": {"rounds": 4, "krige": False}}
COMMON = {"protocol": "warm", "select": False, "rank_items": False, "partition": "users", "threads": 1}


def train(method: object, nodes: Sequence[Node], rounds: int) -> tuple[float, float]:
    """CPU seconds of the rounds without the checks, and of the checks."""
    began, checks = time.process_time(), 0.0
    shared, private = method.start(), [None] * len(nodes)
    while shared.round < rounds:
        looked = time.process_time()
        look, sums = look_by(method, shared), []
        checks += time.process_time() - looked
        for place, (sent, kept) in enumerate(method.contribute(shared, nodes, private)):
            private[place] = kept
            looked = time.process_time()
            reason = look(sent)
            checks += time.process_time() - looked
            if reason:
                raise SystemExit(f"an honest node is refused: {reason}")
            sums.append(sent)
        shared = method.combine(shared, ordered_sum(sums))
    return time.process_time() - began - checks, checks


def main() -> None:
    """Go over the presets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--presets", default=",".join(PRESETS))
    options = parser.parse_args()
    for preset in options.presets.split(","):
        changes = PRESETS[preset]
        rest = {"nodes": NODES, "personal_nodes": NODES, "data.source": options.data}
        settings = load_settings(preset, {**COMMON, **changes, **rest})
        with one_torch_thread():
            allocation = allocate(load_dataset(settings), settings)
            nodes, dataset = list(allocation.nodes), allocation.dataset
            case = Case(settings, dataset.catalogue, settings.data.limits(dataset.ratings.limits))
            method, rounds = prepare(after_earlier_stages(case, nodes)).method, settings.training.rounds
            found = [train(method, nodes, rounds) for _ in range(options.repetitions)]
        rest, checks = (sum(each) for each in zip(*found, strict=True))
        print(f"{preset}: {rest:.2f} s without checks, {checks:.2f} s of checks: {checks / rest:+.1%}", flush=True)


if __name__ == "__main__":
    main()
