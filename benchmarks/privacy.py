"""What does user-level differential privacy cost in accuracy, and what does a budget buy?

    python benchmarks/privacy.py --data FOLDER [--seeds 3] [--epsilons 1,2,4,8] [--out FOLDER]

Preset `private` under protocol warm (a fifth of each user's rows held out), at delta 1e-5, beside its own prior before
any release (epsilon 0), the same releases without noise worth the name (epsilon 1e6), and `local`, which sends nothing
and whose constants were set by hand. Every figure is a run of `hierfed run private --protocol warm --set epsilon=E`;
the budget printed is what dp-accounting makes of the releases that the run has made. With --out, the curve is drawn.
"""

import argparse
import time
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

import hierfed
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.judging import judge_node, judge_users
from hierfed.report.style import INK, MODEL, MUTED, blank, fit, save, styled

NEXT_TO_NO_NOISE = 1e6


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.4f} ± {stdev(values) if len(values) > 1 else 0:.4f}"


def main() -> None:
    """Run the curve and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilons", default="1,2,4,8")
    parser.add_argument("--protocol", default="warm")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    epsilons = [*map(float, options.epsilons.split(",")), NEXT_TO_NO_NOISE]
    reached: dict[float, list[float]] = {epsilon: [] for epsilon in (0.0, *epsilons)}
    spent: dict[float, float] = {}
    local, seconds = [], []
    for seed in range(options.seeds):
        for epsilon in epsilons:
            began = time.perf_counter()
            run = hierfed.run("private", data=options.data, protocol=options.protocol, seed=seed, epsilon=epsilon)
            seconds.append(time.perf_counter() - began)
            reached[epsilon].append(run.result.users.rmse_after)
            spent[epsilon] = run.result.privacy.epsilon_spent
            print(f"seed {seed}, epsilon {epsilon:g}: {reached[epsilon][-1]:.4f}", flush=True)
        local.append(run.result.personal_baselines.local_only)
        reached[0.0].append(before_any_release(run))
    table = Table(title=f"private, {options.protocol}, {options.seeds} seeds, delta 1e-5")
    for heading in ("epsilon", "spent", "RMSE", "by seed"):
        table.add_column(heading, justify="right")
    for epsilon, values in reached.items():
        cost = f"{spent[epsilon]:.4f}" if epsilon else "0"
        table.add_row(f"{epsilon:g}", cost, spread(values), " ".join(f"{value:.4f}" for value in values))
    table.add_row("local", "0", spread(local), " ".join(f"{value:.4f}" for value in local))
    console = Console(width=110)
    console.print(table)
    console.print(f"{mean(seconds):.0f} seconds a run")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        draw({epsilon: mean(values) for epsilon, values in reached.items()}, mean(local), options.out)


def before_any_release(run: hierfed.Run) -> float:
    """The error of the users' own models under the first guess."""
    outcome = run.outcome
    shared = run_rounds(outcome.method, outcome.federated_nodes, 0).shared
    models = outcome.method.personalise(shared, outcome.personal_nodes, [None] * len(outcome.personal_nodes))
    pairs = zip(outcome.personal_nodes, models, strict=True)
    return judge_users([judge_node(outcome.method, shared, node, model)[1] for node, model in pairs]).rmse_after


@styled
def draw(reached: dict[float, float], local: float, folder: Path) -> None:
    """The error against the budget, on a logarithmic axis; without noise, and without any release, as lines."""
    epsilons = [epsilon for epsilon in reached if 0 < epsilon < NEXT_TO_NO_NOISE]
    best = epsilons[-1]
    figure, (axes,) = blank(
        f"Whole users hidden at epsilon {best:g}: RMSE {reached[best]:.4f}, from {reached[0.0]:.4f} before any release",
        "RMSE on held-out rows of users' own models under a private prior, at delta 1e-5; lower is better",
        3.2,
    )
    axes.plot(epsilons, [reached[epsilon] for epsilon in epsilons], "s-", color=MODEL)
    lines = [(reached[0.0], "before any release", INK), (reached[NEXT_TO_NO_NOISE], "the same without noise", MODEL)]
    for value, name, colour in [*lines, (local, "local: constants set by hand", MUTED)]:
        axes.axhline(value, color=colour, linestyle="--", linewidth=1)
        axes.annotate(name, (epsilons[-1], value), textcoords="offset points", xytext=(-4, 3), ha="right", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    axes.set_xlabel("epsilon")
    axes.set_ylabel("RMSE (stars)")
    save(fit(figure), "privacy", folder)


if __name__ == "__main__":
    main()
