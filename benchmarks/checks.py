"""What do the server's checks cost an honest federation? `python benchmarks/checks.py --data FOLDER`

The same federation in one process with and without them, in turns: nodes contribute, the server looks at each
contribution, adds and combines. Prints the CPU seconds of all of it, the least of some repetitions, and what they add.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.replies import finite, look_by
from hierfed.engines.stages import after_earlier_stages
from hierfed.federated.contract import ordered_sum
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

NODES = 8
PRESETS = {"item_biases": {}, "network": {"rounds": 4}, "hierarchical": {"rounds": 8, "krige": False}}
COMMON = {"protocol": "warm", "select": False, "rank_items": False, "partition": "users", "threads": 1}


def train(method: object, nodes: Sequence[Node], rounds: int, checked: bool) -> tuple[float, str]:
    """CPU seconds, and the model's digest."""
    began = time.process_time()
    shared, private = method.start(), [None] * len(nodes)
    while shared.round < rounds:
        look, sums = look_by(method, shared) if checked else finite, []
        for place, (sent, kept) in enumerate(method.contribute(shared, nodes, private)):
            private[place] = kept
            reason = look(sent)
            if reason:
                raise SystemExit(f"an honest node is refused: {reason}")
            sums.append(sent)
        shared = method.combine(shared, ordered_sum(sums))
    return time.process_time() - began, shared.digest()


def main() -> None:
    """Go over the presets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    for preset, changes in PRESETS.items():
        rest = {"nodes": NODES, "personal_nodes": NODES, "data.source": options.data}
        settings = load_settings(preset, {**COMMON, **changes, **rest})
        with one_torch_thread():
            allocation = allocate(load_dataset(settings), settings)
            nodes, dataset = list(allocation.nodes), allocation.dataset
            case = Case(settings, dataset.catalogue, settings.data.limits(dataset.ratings.limits))
            method, rounds = prepare(after_earlier_stages(case, nodes)).method, settings.training.rounds
            found = [
                {checked: train(method, nodes, rounds, checked) for checked in (True, False)}
                for _ in range(options.repetitions)
            ]
        assert len({digest for each in found for _, digest in each.values()}) == 1
        with_checks, without = (min(each[checked][0] for each in found) for checked in (True, False))
        told = f"{without:.2f} s without checks, {with_checks:.2f} s with them"
        print(f"{preset}: {told}: {with_checks / without - 1:+.1%}", flush=True)


if __name__ == "__main__":
    main()
