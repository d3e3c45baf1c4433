"""How far does one node of eight move the shared model by messages that the server accepts?

    python benchmarks/influence.py --data FOLDER

One node changes its contribution in every round from round 1 on: all of it or one array, times a number, negated too.
The server's checks look at each; what they refuse is left out, as on a federation. Prints, for each lie, in how many
rounds it was accepted, and the RMSE of the shared model on the test rows of the seven honest nodes (protocol warm),
with the checks and without them; then the worst of each preset. The shared model alone is judged: personal models
would hide a part of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
from torch import Tensor

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.replies import look_by
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, ordered_sum
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

NODES, ROUNDS = 8, 4
FACTORS = (-1.0, 10.0, -10.0, 100.0, 1e4, 1e6, -1e6)
COMMON = {"protocol": "warm", "select": False, "rank_items": False, "partition": "users", "threads": 1}
PRESETS = {"network": {"hidden": [32, 16]}, "hierarchical": {"krige": False}}
Lie = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def lies(arrays: Sequence[str]) -> Iterator[tuple[str, Lie]]:
    """Every lie with its words; arrays: of a contribution, those that can be changed by themselves."""
    for factor in FACTORS:
        yield f"all x {factor:g}", lambda sent, factor=factor: {name: each * factor for name, each in sent.items()}
    for only, factor in product(arrays, FACTORS):
        yield (
            f"{only} x {factor:g}",
            lambda sent, only=only, factor=factor: {
                name: each * (factor if name == only else 1.0) for name, each in sent.items()
            },
        )


def rmse(method: object, shared: object, nodes: Sequence[Node]) -> float:
    """Of the shared model on these nodes' test rows."""
    errors = [np.asarray(method.predict(shared, node.test.untimed)) - node.test.value for node in nodes]
    return float(np.sqrt(np.square(np.concatenate(errors)).mean()))


def opening(method: object, nodes: Sequence[Node]) -> object:
    """The shared model that round 1 begins from; everybody is honest."""
    shared = method.start()
    while shared.round < 0:
        sums = [sent for sent, _ in method.contribute(shared, nodes, [None] * len(nodes))]
        shared = method.combine(shared, ordered_sum(sums))
    return shared


def train(
    method: object, opened: object, nodes: Sequence[Node], judged: Sequence[Node], lie: Lie | None, checked: bool
) -> tuple[float, int]:
    """The RMSE at the end, and the number of rounds in which the lie was accepted.

    opened: the shared model after its opening rounds.
    """
    shared, private, taken = opened, [None] * len(nodes), 0
    while shared.round < ROUNDS:
        look, sums = look_by(method, shared), []
        for place, (sent, kept) in enumerate(method.contribute(shared, nodes, private)):
            private[place], liar = kept, lie is not None and place == len(nodes) - 1
            sent = Contribution(lie(sent.arrays)) if liar else sent  # noqa: PLW2901
            refused = checked and look(sent)
            taken += liar and not refused
            if not refused:
                sums.append(sent)
        shared = method.combine(shared, ordered_sum(sums))
    return rmse(method, shared, judged), taken


def main() -> None:
    """Go over presets and lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--presets", default=",".join(PRESETS))
    options = parser.parse_args()
    for preset in options.presets.split(","):
        rest = {"nodes": NODES, "personal_nodes": NODES, "rounds": ROUNDS, "data.source": options.data}
        settings = load_settings(preset, {**COMMON, **PRESETS[preset], **rest})
        with one_torch_thread():
            allocation = allocate(load_dataset(settings), settings)
            nodes, dataset = list(allocation.nodes), allocation.dataset
            case = Case(settings, dataset.catalogue, settings.data.limits(dataset.ratings.limits))
            method = prepare(after_earlier_stages(case, nodes)).method
            opened, alone = opening(method, nodes), opening(method, nodes[:-1])
            names = set(next(iter(method.contribute(opened, nodes, [None] * len(nodes))))[0].arrays)
            honest, _ = train(method, opened, nodes, nodes[:-1], None, True)
            without, _ = train(method, alone, nodes[:-1], nodes[:-1], None, True)
            print(f"{preset}: honest {honest:.4f}, without the node {without:.4f}", flush=True)
            worst = {True: honest, False: honest}
            for words, lie in lies(sorted(names)):
                found = {}
                for checked in (True, False):
                    try:
                        found[checked], taken = train(method, opened, nodes, nodes[:-1], lie, checked)
                    except (HierfedError, ArithmeticError, RuntimeError, ValueError) as error:
                        found[checked] = float("inf")
                        print(f"  {words}: {type(error).__name__}", flush=True)
                    if checked:
                        accepted = taken
                    worst[checked] = max(worst[checked], found[checked])
                if accepted or found[False] > 2 * honest:
                    told = f"accepted in {accepted} of {ROUNDS} rounds, {found[True]:.4f}"
                    print(f"  {words}: {told}; without checks {found[False]:.4f}", flush=True)
            print(f"{preset}: worst {worst[True]:.4f}; without checks {worst[False]:.4g}", flush=True)


if __name__ == "__main__":
    main()
