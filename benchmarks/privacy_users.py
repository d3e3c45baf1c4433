"""From how many users on does differential privacy pay?

    python benchmarks/privacy_users.py [--users 500,2000,5000] [--epsilons 1,4,8] [--start guess|local] [--seeds 1]
    python benchmarks/privacy_users.py --data FOLDER [...]
    python benchmarks/privacy_users.py --draw FILE --out docs/images

RMSE of preset `private` under protocol warm at delta 1e-5, by the number of users of generated ratings: those of
`hierfed data make FOLDER --users N --items 6000 --ratings 35N`, or of a folder. Columns: `nothing sent` is the prior's
start without any release, `no noise` the three releases at epsilon 1e6, and `local` the preset of that name. By default
the start is the first guess of `private`; with `--start local` it is the constants of `local`, and `nothing sent` is
then `local`. So whatever the start, both sides of a comparison have it.

Models are those of `hierfed run private --protocol warm --set epsilon=E`. Users' parts of the first release follow from
the start alone, so they are computed once for all epsilons. Each line is printed as it is done, and kept in the FILE of
--lines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from hierfed.data.division import allocate, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.judging import judge_node, judge_users
from hierfed.federated.contract import SharedModel
from hierfed.generated.files import write_world
from hierfed.methods import Case, prepare
from hierfed.methods.local.local import LocalOnly
from hierfed.methods.local.personal import PriorScales, PublicPrior
from hierfed.methods.local.rivals import local_rmse
from hierfed.methods.private_prior.private_prior import FIRST_GUESS, PrivatePrior, Release, _scales_array
from hierfed.models.threads import one_torch_thread
from hierfed.private_randomness import foreseeable_streams
from hierfed.report.style import HARM, INK, MODEL, MUTED, blank, fit, save, styled
from hierfed.settings import Settings, load_settings

ITEMS, RATINGS_A_USER, NEXT_TO_NO_NOISE = 6000, 35, 1e6
STARTS = {"guess": FIRST_GUESS, "local": PriorScales()}


@dataclass(frozen=True)
class Remembering(PrivatePrior):
    """A private prior from a start of its own, which keeps users' parts of the first release.

    remembered: by the user's number.
    """

    first: PriorScales = FIRST_GUESS
    remembered: dict[int, torch.Tensor] = field(default_factory=dict)

    def start(self) -> SharedModel:
        """With the start in the place of the first guess."""
        shared = super().start()
        return SharedModel({**shared.arrays, "scales": _scales_array(self.first)}, shared.round)

    def _told(self, priors: Sequence[PublicPrior], train: Ratings, release: Release) -> torch.Tensor:
        if release.name != "scales" or not len(train):
            return super()._told(priors, train, release)
        user = int(train.user[0])
        if user not in self.remembered:
            self.remembered[user] = super()._told(priors, train, release)
        return self.remembered[user]


def method_of(settings: Settings, case: Case, first: PriorScales, remembered: dict[int, torch.Tensor]) -> Remembering:
    """The method of these settings, with another start."""
    made = prepare(case).method
    assert isinstance(made, PrivatePrior)
    own = {each.name: getattr(made, each.name) for each in fields(made)}
    return Remembering(**own, first=first, remembered=remembered)


def judged(method: Remembering, nodes: Sequence[Node], personal: Sequence[Node], rounds: int) -> float:
    """RMSE of users' own models after so many releases."""
    shared = run_rounds(method, nodes, rounds).shared
    models = method.personalise(shared, personal, [None] * len(personal))
    pairs = zip(personal, models, strict=True)
    return judge_users([judge_node(method, shared, node, model)[1] for node, model in pairs]).rmse_after


def figures(data: str, seed: int, start: str, epsilons: Sequence[float]) -> Iterator[tuple[str, float]]:
    """What was released, and the RMSE that it gives."""
    remembered: dict[int, torch.Tensor] = {}
    for epsilon in (*epsilons, NEXT_TO_NO_NOISE):
        settings = load_settings("private", {"data.source": data, "protocol": "warm", "seed": seed, "epsilon": epsilon})
        dataset = load_dataset(settings)
        allocation = allocate(dataset, settings)
        limits = settings.data.limits(dataset.ratings.limits)
        case = Case(settings, dataset.catalogue, limits, streams=foreseeable_streams(seed))
        method = method_of(settings, case, STARTS[start], remembered)
        nodes, personal = list(allocation.nodes), list(allocation.personal_nodes)
        if epsilon == epsilons[0]:
            parts = allocation.parts()
            yield "users", dataset.users
            yield "local", local_rmse(LocalOnly(method.content, limits, 1), *parts.personal)
            yield "nothing sent", judged(method, nodes, personal, 0)
        name = "no noise" if epsilon == NEXT_TO_NO_NOISE else f"epsilon {epsilon:g}"
        yield name, judged(method, nodes, personal, settings.training.rounds)


def measure(data: str, options: argparse.Namespace) -> None:
    """Print and keep a line for each seed."""
    for seed in range(options.seeds):
        began = time.process_time()
        line: dict[str, float | str] = {"data": Path(data).name, "start": options.start, "seed": seed}
        with one_torch_thread():
            for name, value in figures(
                data, seed, options.start, [float(each) for each in options.epsilons.split(",")]
            ):
                line[name] = value
                print(f"{line['data']}, from {options.start}, seed {seed}: {name} {value:.4f}", flush=True)
        line["seconds"] = time.process_time() - began
        print(f"{line['seconds']:.0f} CPU seconds", flush=True)
        if options.lines is not None:
            with options.lines.open("a") as file:
                file.write(json.dumps(line) + "\n")


@styled
def draw(lines: Sequence[dict[str, float]], folder: Path) -> None:
    """RMSE less that of sending nothing from the same start, by the number of users."""
    lines = sorted(lines, key=lambda line: line["users"])
    users = [line["users"] for line in lines]
    figure, (axes,) = blank(
        "What a budget buys grows with the number of users",
        "RMSE of preset private less that of the same start with nothing sent, at delta 1e-5; lower is better",
        3.4,
    )
    names = [name for name in lines[0] if name.startswith("epsilon")]
    for name, colour in zip([*names, "no noise"], (HARM, "#3d8b5f", MODEL, INK), strict=False):
        points = [(line["users"], line[name] - line["nothing sent"]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
    axes.axhline(0, color=MUTED, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(users, [f"{each:,.0f}" for each in users])
    axes.minorticks_off()
    axes.set_xlabel("users")
    axes.set_ylabel("RMSE (stars)")
    axes.legend(frameon=False, fontsize=8)
    save(fit(figure), "privacy-users", folder)


def main() -> None:
    """Measure each number of users, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", default="500,2000,5000")
    parser.add_argument("--data", default="")
    parser.add_argument("--epsilons", default="1,4,8")
    parser.add_argument("--start", choices=STARTS, default="guess")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.draw is not None:
        draw([json.loads(line) for line in options.draw.read_text().splitlines()], options.out)
    elif options.data:
        measure(options.data, options)
    else:
        for users in map(int, options.users.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / f"{users} users"
                write_world(made, users=users, items=ITEMS, ratings=RATINGS_A_USER * users)
                measure(str(made), options)


if __name__ == "__main__":
    main()
