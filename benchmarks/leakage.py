"""What leaks, measured: who was in the training data, what somebody rated, and whether a canary is found.

    python benchmarks/leakage.py [--data FOLDER] [--targets hierarchical network private] [--shadows 24]
                                 [--trainings 48] [--users 240] [--figures FOLDER]

Attacks on the hierarchical model, on the network and on the private prior: on the shared model, on the sums that single
nodes send, which a server sees without secure sums, and on sums over all nodes, which it sees with them. Each with and
without what is meant to protect: secure sums, the threshold of raters, differential privacy.

Membership: SHADOWS trainings, each on a random half of the population's ratings, or users; a loss threshold (Yeom et
al., 2018), and likelihood ratios with the other trainings as shadow models (Carlini et al., 2022). Intervals are
DeLong's for clusters: the scores of one film, or user, hang together. Canary: one invented user with 80 ratings, half
of them the best and half the worst, of films with 5 to 20 raters, in half of TRAININGS; its epsilon is a lower bound
with 95% confidence (Jagielski et al., 2020), for all of the canary's ratings together.

Smaller than real trainings, for there to be many: a population of USERS with 80 ratings each, on 8 nodes, and 8 rounds
of the hierarchical model; reconstruction alone has all users and ratings. Few users are easier to attack than many. The
network begins at random, as it must under differential privacy, and takes 20 rounds where every user is a node. What
noise and starts are drawn from, the attacker does not know. The same seeds give the same table, but for the seconds.
Most of the time goes into the private prior, which --targets can leave out.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from leaks.canaries import attack_canary
from leaks.findings import Finding, timed
from leaks.membership import attack_ratings, attack_users
from leaks.reconstruction import attack_sums, attack_user_nodes
from leaks.roc_figure import draw
from leaks.targets import NOISELESS, TARGETS, Population, alike, everyone
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hierfed.data.division import load_dataset
from hierfed.data.ratings import Dataset
from hierfed.errors import HierfedError
from hierfed.report.style import save
from hierfed.settings import load_settings

RATINGS = 80
HEADINGS = (
    "attack",
    "target",
    "protection",
    "seen",
    "AUC [95%]",
    "TPR at 1%",
    "error (exact)",
    "p",
    "epsilon",
    "RMSE",
    "s",
)
READING = """\
seen: with secure sums the shared model and sums over all nodes are seen just as well; what is of single nodes is not.
AUC: area under the ROC curve, with its 95% interval. TPR at 1%: members found where 1% of the others are taken for one.
error: RMSE of reconstructed ratings, in stars, and how many are right to the half star. p: that a canary's AUC is mere
chance. epsilon: what canaries prove, in brackets the most that so many trainings can. RMSE: of the attacked model on
ratings that it has not seen; they deviate by {deviation:.3f} from their mean. s: seconds, trainings included."""
LEAST_SHADOWS, LEAST_TRAININGS = 6, 8


def cells(finding: Finding) -> list[str]:
    """A finding as a row of the table; empty where the attack has no such measure."""
    area, curve, error, epsilon = finding.area, finding.curve, finding.error, finding.epsilon
    return [
        finding.attack,
        finding.target,
        finding.protection,
        finding.seen,
        f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]" if area else "",
        f"{curve.true_positive_at(0.01):.1%}" if curve else "",
        "" if error is None else f"{error:.3f} ({finding.exact:.0%})",
        "" if finding.p_value is None else f"{finding.p_value:.2g}",
        f"{epsilon[0]:.2f} ({epsilon[1]:.2f})" if epsilon else "",
        "" if finding.model_error is None else f"{finding.model_error:.3f}",
        f"{finding.seconds:.0f}" if finding.seconds else "",
    ]


def planned(dataset: Dataset, population: Population, options: argparse.Namespace) -> list[Callable[[], list[Finding]]]:
    """The attacks on the targets that were asked for, not yet begun."""
    targets = [target for name in options.targets for target in TARGETS[name]]
    attacks: list[Callable[[], list[Finding]]] = []
    if "hierarchical" in options.targets:
        attacks += [partial(attack_sums, everyone(dataset)), partial(attack_user_nodes, population)]
    for target in targets:
        if target.preset != NOISELESS.preset:  # which is about whole users
            attacks.append(partial(attack_ratings, target, population, options.shadows))
    for target in targets:
        if not target.every_user:  # else who sends anything is in
            attacks.append(partial(attack_users, target, population, options.shadows))
            attacks.append(partial(attack_canary, target, population, options.trainings))
    return attacks


def tabulate(findings: list[Finding], title: str) -> Table:
    """All findings, a row each."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in HEADINGS[4:] else "left", no_wrap=True)
    for finding in findings:
        table.add_row(*cells(finding))
    return table


def main() -> None:
    """Run all attacks, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="a source of ratings, as for `hierfed run`")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--shadows", type=int, default=24, help="trainings of each membership attack")
    parser.add_argument("--trainings", type=int, default=48, help="trainings of each canary, half of them with it")
    parser.add_argument("--users", type=int, default=240, help="of the population, of whom half are in a training")
    parser.add_argument("--figures", type=Path, help="a folder for the ROC curves")
    options = parser.parse_args()
    if options.shadows < LEAST_SHADOWS or options.trainings < LEAST_TRAININGS:
        parser.error(f"at least {LEAST_SHADOWS} shadows and {LEAST_TRAININGS} trainings are needed to tell anything")
    torch.set_num_threads(1)

    dataset = load_dataset(load_settings("hierarchical", {"source": options.data}))
    population = alike(dataset, options.users, RATINGS)
    console, findings, missing = Console(width=200), [], set()
    for attack in planned(dataset, population, options):
        try:
            found = timed(attack)
        except HierfedError as error:
            missing.add(str(error))
            continue
        for finding in found:
            console.print(" | ".join(filter(None, cells(finding))), style="dim", highlight=False)
        findings += found

    title = f"{options.users} users, {options.shadows} shadows, {options.trainings} trainings for each canary"
    console.print(tabulate(findings, title))
    console.print(READING.format(deviation=np.std(population.ratings.value)), markup=False, highlight=False)
    for error in sorted(missing):
        console.print(f"not run: {error}", markup=False)
    if options.figures is not None:
        options.figures.mkdir(parents=True, exist_ok=True)
        save(draw(findings), "leakage", options.figures)


if __name__ == "__main__":
    main()
