"""How far do lying nodes move a model, by rule, with and without secure sums?

    python benchmarks/attack.py --data FOLDER [--presets hierarchical,network] [--seeds 5] [--only TEXT] [--out FILE]

Liars attack in six ways. In `ten times`, `sign flip`, `noise` (of the size of their own values) and `collusion` (all
send the same: their mean contribution with its sign turned) they change what they send, in every round from the first,
all but the counts; in `push` each of their users gives one film five stars, in `shuffle` their ratings trade places.
In `half push` and `quiet push`, which are asked for by name, one in two and one in four of their users do.
Protocol warm. Damage is the RMSE of the honest nodes' users, with their personal models, over that of a training
without the liars. A pushed film has 50 honest raters or more and is among the least liked; its move is in mean rank
over honest users, as a share of the catalogue. Each line is printed as it is done, and kept in FILE, from which a
second call goes on; `--table FILE` prints the means over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch

from hierfed.data.division import Allocation, allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

COUNTS = {"users", "ratings", "rows", "raters", "moments", "counts"}
ATTACKS = ("none", "ten times", "sign flip", "noise", "push", "shuffle", "collusion")
COMMON = {"protocol": "warm", "select": False, "rank_items": False, "partition": "users", "threads": 1}
PRESETS = {
    "hierarchical": {"rounds": 12, "krige": False},
    "network": {"rounds": 10, "hidden": [32, 16]},
}
PUSHED_RATERS = 50
RULE = {"rule", "rule_share", "groups"}
# One in so many users of a liar pushes.
PUSHES = {"push": 1, "half push": 2, "quiet push": 4}


@dataclass(frozen=True)
class Lying:
    """A method whose lying nodes change what they send."""

    method: object
    liars: frozenset[int]
    attack: str
    seed: int

    def __getattr__(self, name: str) -> object:
        return getattr(self.method, name)

    def contribute(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence) -> Iterator:
        """The contributions, with the liars' own in their places."""
        pairs = list(self.method.contribute(shared, nodes, private))
        lies = [pair[0] for node, pair in zip(nodes, pairs, strict=True) if node.number in self.liars]
        for node, (honest, kept) in zip(nodes, pairs, strict=True):
            yield (self._lie(honest, lies, shared.round, node.number) if node.number in self.liars else honest), kept

    def _lie(self, honest: Contribution, lies: list[Contribution], number: int, node: int) -> Contribution:
        random = np.random.default_rng([self.seed, number + 1000, node])

        def lie(name: str, array: torch.Tensor) -> torch.Tensor:
            if name in COUNTS or self.attack in ("none", "shuffle", *PUSHES):
                return array
            if self.attack == "noise":
                scale = float(array.square().mean().sqrt())
                return array + torch.from_numpy(random.normal(0, scale, tuple(array.shape)))
            if self.attack == "collusion":
                return -sum(each.arrays[name] for each in lies) / len(lies)
            return array * {"ten times": 10.0, "sign flip": -1.0}[self.attack]

        return Contribution({name: lie(name, array) for name, array in honest.arrays.items()})


def with_false_ratings(node: Node, attack: str, film: int, seed: int) -> Node:
    """The liar's node after an attack on its ratings."""
    train = node.train
    if attack == "shuffle":
        order = np.random.default_rng([seed, node.number]).permutation(len(train))
        return replace(node, train=replace(train, value=train.value[order]))
    if attack in PUSHES:
        users = np.unique(train.user)[:: PUSHES[attack]].astype(train.user.dtype)
        kept = (train.item != film) | ~np.isin(train.user, users)
        rows = {"user": users, "item": np.full(len(users), film, train.item.dtype)}
        rows["value"] = np.full(len(users), 5, train.value.dtype)
        if train.time is not None:
            rows["time"] = np.full(len(users), train.time.max(), train.time.dtype)
        old = {name: getattr(train, name)[kept] for name in rows}
        return replace(node, train=Ratings(**{name: np.concatenate([old[name], rows[name]]) for name in rows}))
    return node


def pushed_film(nodes: Sequence[Node], items: int) -> int:
    """The least liked film with enough raters at these nodes."""
    item = np.concatenate([node.train.item for node in nodes])
    value = np.concatenate([node.train.value for node in nodes])
    raters = np.bincount(item, minlength=items)
    means = np.bincount(item, value, items) / np.maximum(raters, 1)
    return int(np.where(raters >= PUSHED_RATERS, means, np.inf).argmin())


@dataclass(frozen=True)
class Found:
    """RMSE of the honest users, and the film's mean rank among them as a share of the catalogue; NaN if not asked."""

    rmse: float
    rank: float


def train(
    case: Case, method: object, nodes: Sequence[Node], honest: Sequence[Node], film: int | None, how, rounds: int
) -> Found:
    """Train on all nodes, and judge the honest ones. film: whose rank is asked for; None for none."""
    done = run_rounds(method, nodes, rounds, how=how)
    numbers = {node.number for node in honest}
    private = [state for node, state in zip(nodes, done.private, strict=True) if node.number in numbers]
    personal = method.personalise(done.shared, honest, private)
    squares, rows, ranks = 0.0, 0, []
    for node, model in zip(honest, personal, strict=True):
        error = model.predict(node.test.untimed).numpy() - node.test.value
        squares, rows = squares + float(np.square(error).sum()), rows + len(error)
        if film is None:
            continue
        some = torch.from_numpy(np.unique(node.train.user)[:: max(1, len(honest) // 4)]).long()
        scores = model.scores(some, len(case.catalogue))
        ranks += (scores > scores[:, film : film + 1]).double().mean(1).tolist()
    rmse = (squares / rows) ** 0.5
    return Found(rmse if np.isfinite(rmse) else float("inf"), float(np.mean(ranks)) if ranks else float("nan"))


def with_validation(node: Node, seed: int) -> Node:
    """The node with one in five of its train rows in the place of its test rows."""
    order = np.random.default_rng([seed, node.number]).permutation(len(node.train))
    held, kept = np.sort(order[::5]), np.sort(np.delete(order, np.s_[::5]))
    return replace(node, train=node.train.take(kept), test=node.train.take(held))


def cases(options: argparse.Namespace) -> Iterator[dict]:
    """Every line of the tables."""
    for seed in range(options.seeds):
        for preset in options.presets.split(","):
            for text in options.settings:
                for nodes in map(int, options.nodes.split(",")):
                    for attack, given in product(options.attacks.split(","), options.share):
                        share = given or ({8: 2 if attack == "collusion" else 1, 64: 12}[nodes] / nodes)
                        liars = round(share * nodes)
                        about = {"preset": preset, "rule": text, "nodes": nodes, "liars": liars}
                        yield about | {"attack": attack, "seed": seed}


def rest_of(seed: int, nodes: int, data: str) -> dict:
    """The settings that no attack and no rule changes. The nodes that learn are judged, on their users' rows."""
    return {"nodes": nodes, "personal_nodes": nodes, "seed": seed, "data.source": data}


@cache
def allocation_of(preset: str, seed: int, nodes: int, data: str) -> Allocation:
    """The nodes, and the data set."""
    settings = load_settings(preset, {**COMMON, **PRESETS[preset], **rest_of(seed, nodes, data)})
    return allocate(load_dataset(settings), settings)


def run(case_of: dict, data: str, validation: bool) -> dict:
    """One line: the damage, and the move of the pushed film."""
    preset, seed, attack = case_of["preset"], case_of["seed"], case_of["attack"]
    changes = dict(part.split("=") for part in case_of["rule"].split()) if case_of["rule"] != "sum" else {}
    changes = {
        name: json.loads(value) if value[0] in "0123456789tf[" and value != "trimmed_mean" else value
        for name, value in changes.items()
    }
    began = time.perf_counter()
    rest = rest_of(seed, case_of["nodes"], data)
    settings = load_settings(preset, {**COMMON, **PRESETS[preset], **rest, **changes})
    # A changed model is compared with itself under a plain sum.
    model = {name: value for name, value in changes.items() if name not in RULE}
    plain = load_settings(preset, {**COMMON, **PRESETS[preset], **rest, **model})
    with one_torch_thread():
        allocation = allocation_of(preset, seed, case_of["nodes"], data)
        nodes, dataset = list(allocation.nodes), allocation.dataset
        if validation:
            nodes = [with_validation(node, seed) for node in nodes]
        liars = frozenset(np.random.default_rng(seed).permutation(len(nodes))[: case_of["liars"]].tolist())
        honest = [node for node in nodes if node.number not in liars]
        film = pushed_film(honest, len(dataset.catalogue))
        told = [with_false_ratings(node, attack, film, seed) if node.number in liars else node for node in nodes]
        raters = {True: 0, False: 0}
        for node in told:
            raters[node.number in liars] += int((node.train.item == film).sum())
        case = Case(settings, dataset.catalogue, settings.data.limits(dataset.ratings.limits))
        rounds = settings.training.rounds
        # Without an attack, the reference has all nodes: the difference is the rule's own cost.
        among = nodes if attack == "none" else honest
        reference = reference_of(
            case,
            plain,
            among,
            honest,
            film,
            rounds,
            (preset, seed, len(nodes), attack == "none", len(liars), data, str(model)),
        )
        try:
            case = after_earlier_stages(case, told, round_of(settings))
            method = Lying(prepare(case).method, liars, attack, seed)
            asked = film if attack in PUSHES else None
            found = train(case, method, told, honest, asked, round_of(settings), rounds)
            damage, move, reason = found.rmse - reference.rmse, reference.rank - found.rank, ""
        except (HierfedError, torch.linalg.LinAlgError, ValueError) as error:
            damage, move, reason = float("inf"), float("nan"), str(error)[:200]
    return {
        **case_of,
        "damage": damage,
        "move": move,
        "honest raters": raters[False],
        "raters at liars": raters[True],
        "reference": reference.rmse,
        "seconds": time.perf_counter() - began,
        "reason": reason,
    }


_KNOWN: dict[tuple, Found] = {}


def reference_of(case: Case, plain, among, honest, film, rounds, key) -> Found:
    """The training with plain sums and without liars."""
    if key not in _KNOWN:
        case = after_earlier_stages(replace(case, settings=plain), among, round_of(plain))
        _KNOWN[key] = train(case, prepare(case).method, among, honest, film, round_of(plain), rounds)
    return _KNOWN[key]


def table(lines: list[dict]) -> str:
    """Means over seeds, a line a rule and a column an attack, in Markdown."""
    groups: dict[tuple, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        groups[line["preset"], line["nodes"], line["rule"]][line["attack"]].append(line)
    told = ["| preset | nodes | rule | " + " | ".join(ATTACKS) + " | film's move |", "|---" * (len(ATTACKS) + 4) + "|"]
    for (preset, nodes, rule), by_attack in groups.items():
        cells = []
        for attack in ATTACKS:
            damages = [line["damage"] for line in by_attack.get(attack, [])]
            broken = sum(not np.isfinite(damage) for damage in damages)
            cells.append(
                "" if not damages else f"breaks {broken}/{len(damages)}" if broken else f"{np.mean(damages):+.4f}"
            )
        moves = [line["move"] for line in by_attack.get("push", [])]
        cells.append(f"{np.mean(moves):+.1%}" if moves else "")
        told.append(f"| {preset} | {nodes} | {rule} | " + " | ".join(cells) + " |")
    return "\n".join(told)


def main() -> None:
    """Run what is asked for and not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="")
    parser.add_argument("--presets", default="hierarchical,network")
    parser.add_argument("--settings", nargs="+", default=["sum"], help="such as 'rule=median' or 'sum'")
    parser.add_argument("--nodes", default="8,64")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    told = "of liars, one or several; 0: 1 of 8 (collusion: 2), 12 of 64"
    parser.add_argument("--share", type=float, nargs="+", default=[0.0], help=told)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--validation", action="store_true", help="judge on one in five of the train rows")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table([json.loads(line) for line in options.table.read_text().splitlines()]))
        return
    done = (
        [json.loads(line) for line in options.out.read_text().splitlines()]
        if options.out and options.out.exists()
        else []
    )
    for case_of in cases(options):
        if any(all(line[name] == value for name, value in case_of.items()) for line in done):
            continue
        line = run(case_of, options.data, options.validation)
        print(json.dumps(line), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
