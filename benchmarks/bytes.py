"""How many bytes does a node send, and what does it cost to send fewer?

    python benchmarks/bytes.py --data FOLDER [--protocol warm] [--seeds 5] [--steps words8,deflate words8 ...]
    python benchmarks/bytes.py --data FOLDER --ranking [--steps words8,deflate words8 ...]
    python benchmarks/bytes.py --data FOLDER --preset network [--seeds 5] [--rounds 10] [--steps eden1 top_k ...]

Every line is a way of sending: numbers as they are, then the steps of each entry of --steps, joined by commas, with
open sums, and under secure sums where the steps allow it. Bytes are what a node sends on average in the rating stage,
its opening rounds included (MB: 10^6 bytes). RMSE is on the personalisation users' held-out rows; the differences are
paired by seed. Under secure sums the model is that of open words, so its bytes alone are counted, for the first seed.
--ranking counts the stages of lists alone, after the rating stage of seed 0, which sends numbers as they are.
For a network, RMSE is on validation rows, one in five of the personalisation users' train rows, and with --test on
their held-out rows.
"""

import argparse
from collections.abc import Sequence
from statistics import mean

import torch
from attack import with_validation
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import PLAIN, Round, round_of, steps_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.federated.method import Trained
from hierfed.methods import Case, prepare, stages_from_rating
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.settings import Settings, load_settings


def train(settings: Settings, method: HierarchicalFactors, nodes: Sequence[Node], how: Round) -> tuple[Trained, float]:
    """The trained model, and the MB that a node sends for it."""
    sent: list[int] = []
    trained = run_rounds(method, nodes, settings.training.rounds, lambda done: sent.append(done.bytes_up), how)
    return trained, sum(sent) / len(nodes) / 1e6


def of_the_ranking(options: argparse.Namespace) -> None:
    """A line for each way of sending what the lists are made of, and each of its stages."""
    plain = load_settings(
        "hierarchical", {"source": options.data, "protocol": options.protocol, "seed": 0, "threads": 1}
    )
    dataset = load_dataset(plain)
    nodes, _ = assign(dataset, divide(dataset, plain), plain)
    rating, *later = stages_from_rating(Case(plain, dataset.catalogue, dataset.ratings.limits))
    models = {rating.name: run_rounds(rating.build({}), nodes, rating.rounds).shared}
    chosen = ("", *(options.steps or ["words8", "words8,deflate"]))
    ways = [(name, secure) for name in chosen for secure in (False, True) if not (secure and "deflate" in name)]
    for name, secure in ways:
        changes = {"steps": name.split(",") if name else [], "secure_sums": secure}
        changed, total = load_settings("hierarchical", changes), 0.0
        how = round_of(changed) if secure else Round(steps=steps_of(changed))
        told = f"{name or 'numbers'}{', secure' if secure else ''}"
        for stage in later:
            sent = list[int]()
            record = lambda done, sent=sent: sent.append(done.bytes_up)  # noqa: E731
            run_rounds(stage.build(models), nodes, stage.rounds, record, how)
            megabytes = sum(sent) / len(nodes) / 1e6
            total += megabytes
            print(f"{told:16} {stage.name:9} {megabytes:7.2f} MB in {len(sent)} rounds", flush=True)
        print(f"{told:16} {'all':9} {total:7.2f} MB", flush=True)


def of_a_network(options: argparse.Namespace) -> None:
    """A line for each way of sending a network's changes."""
    ways = {"numbers": (), **{name: tuple(name.split(",")) for name in options.steps or ["eden1", "eden2", "top_k"]}}
    errors: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(options.seeds):
        plain = load_settings("network", {"source": options.data, "seed": seed, "threads": 1})
        dataset = load_dataset(plain)
        nodes, personal = assign(dataset, divide(dataset, plain), plain)
        judged = personal if options.test else [with_validation(node, seed) for node in personal]
        case = Case(plain, dataset.catalogue, dataset.ratings.limits)
        method = prepare(after_earlier_stages(case, nodes, PLAIN)).method
        for name, steps in ways.items():
            settings = load_settings("network", {"seed": seed, "steps": list(steps)})
            how, sent = Round(steps=steps_of(settings)), list[int]()
            rounds = options.rounds or plain.training.rounds
            trained = run_rounds(method, nodes, rounds, lambda done, sent=sent: sent.append(done.bytes_up), how)
            personalised = method.personalise(trained.shared, judged, [None] * len(judged))
            errors[name].append(rmse(judged, personalised))
            megabytes, off = sum(sent) / len(nodes) / 1e6, errors[name][-1] - errors["numbers"][-1]
            print(f"seed {seed}  {name:16} {megabytes:7.4f} MB  {errors[name][-1]:.5f}  {off:+.5f}", flush=True)
    for name, found in errors.items():
        print(f"mean    {name:16} {mean(found):.5f}  {mean(found) - mean(errors['numbers']):+.5f}", flush=True)


def main() -> None:
    """Print a line for each way of sending."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--protocol", default="warm")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", choices=["hierarchical", "network"], default="hierarchical")
    parser.add_argument("--rounds", type=int, default=0, help="of a network; 0: the preset's")
    parser.add_argument("--test", action="store_true", help="judge a network on test rows")
    parser.add_argument("--steps", nargs="*")
    parser.add_argument("--without-secure-sums", action="store_true")
    parser.add_argument("--ranking", action="store_true", help="the stages of lists")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.ranking:
        of_the_ranking(options)
        return
    if options.preset == "network":
        of_a_network(options)
        return
    chosen = options.steps or ["words16", "words8", "words8,deflate"]
    ways = {"numbers": (), **{name: tuple(name.split(",")) for name in chosen}}
    errors: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(options.seeds):
        plain = load_settings(
            "hierarchical", {"source": options.data, "protocol": options.protocol, "seed": seed, "threads": 1}
        )
        dataset = load_dataset(plain)
        nodes, personal = assign(dataset, divide(dataset, plain), plain)
        method = prepare(Case(plain, dataset.catalogue, dataset.ratings.limits)).method
        assert isinstance(method, HierarchicalFactors)
        for name, steps in ways.items():
            settings = load_settings("hierarchical", {"seed": seed, "steps": list(steps)})
            trained, sent = train(plain, method, nodes, Round(steps=steps_of(settings)))
            private = trained.private if personal is nodes else [None] * len(personal)
            errors[name].append(rmse(personal, method.personalise(trained.shared, personal, private)))
            off = errors[name][-1] - errors["numbers"][-1]
            print(f"seed {seed}  {name:16} {sent:6.2f} MB  {errors[name][-1]:.5f}  {off:+.5f}", flush=True)
            if seed == 0 and "deflate" not in steps and not options.without_secure_sums:
                secure = load_settings("hierarchical", {"secure_sums": True, "steps": list(steps)})
                _, sent = train(plain, method, nodes, round_of(secure))
                print(f"seed {seed}  {name:16} {sent:6.2f} MB under secure sums of {len(nodes)} nodes", flush=True)
    for name, found in errors.items():
        print(f"mean    {name:16} {mean(found):.5f}  {mean(found) - mean(errors['numbers']):+.5f}", flush=True)


if __name__ == "__main__":
    main()
