"""Whole runs, from the shell's prompt to the report, beside the bare imports and beside rivals on the same split.

    python benchmarks/whole.py embedded FOLDER ... [--rivals myfm surprise implicit] [--set NAME=VALUE ...]

FOLDER: as `hierfed data make` writes it. Each run and each rival is a process of its own: `hierfed run hierarchical
--protocol warm`, with its choices, personal models, lists, report and files. Prints for each wall seconds, CPU seconds
(user and system, of all its processes), the most memory of one process, RMSE and NDCG@10; then where the run's time
went. Where others compute on the machine, CPU seconds and ratios tell more than wall seconds.

Rivals are of the extra `bench`: myfm (rank 8, 300 iterations), surprise's SVD++ and implicit's ALS with 32 factors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "anchors"))

IMPORTS = "import torch, polars, matplotlib.pyplot"
RIVALS = ("myfm", "surprise", "implicit")


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the wall and of the CPU, and GB at most."""

    wall: float
    cpu: float
    peak: float


def cost_of(command: Sequence[str], output: Path) -> Cost:
    """The cost of a command, and of the processes that it starts; its standard output goes to a file."""
    began = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6)


def rival(name: str, source: str) -> dict[str, float]:
    """The figures of a rival that has all rows in one place."""
    import numpy as np
    from task import load_ratings, make_task, seen_matrix

    from hierfed.models.metrics import rating_errors

    task, wanted = make_task(load_ratings(source), "warm", 0)
    train, asked = task.train, task.asked
    if name == "implicit":
        import torch
        from implicit.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix

        from hierfed.evaluation.ranking import judge_ranking

        model = AlternatingLeastSquares(factors=32, regularization=10.0, alpha=3.0, iterations=15, random_state=0)
        model.fit(csr_matrix(seen_matrix(task), dtype=np.float32), show_progress=False)
        users, items = (torch.from_numpy(each).double() for each in (model.user_factors, model.item_factors))
        found = judge_ranking({name: lambda some: users[some] @ items.T}, train, asked, task.dataset.items)
        return {"ndcg@10": found[name].ndcg_at_10}
    if name == "surprise":
        from surprise import SVDpp
        from surprise_models import fit_and_predict

        predicted = fit_and_predict(SVDpp(random_state=0, cache_ratings=True), task)
    else:
        from myfm import MyFMRegressor
        from scipy.sparse import csr_matrix

        sizes = task.dataset.users, task.dataset.items

        def pairs(rows: object) -> csr_matrix:
            count = len(rows.user)
            columns = np.stack([rows.user, rows.item + sizes[0]], 1).ravel()
            return csr_matrix((np.ones(2 * count), columns, np.arange(0, 2 * count + 1, 2)), (count, sum(sizes)))

        machine = MyFMRegressor(rank=8, random_seed=0)
        machine.fit(pairs(train), train.value.astype(float), n_iter=300, n_kept_samples=260, group_shapes=list(sizes))
        predicted = machine.predict(pairs(asked))
    clipped = np.clip(predicted, train.value.min(), train.value.max())
    return {"rmse": rating_errors(clipped, wanted, asked.user).rmse}


def line(name: str, cost: Cost, figures: dict[str, float], bare: Cost) -> str:
    """One line of the table."""
    known = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
    return (
        f"  {name:10} {cost.wall:8.1f} s wall {cost.cpu:8.1f} s CPU ({cost.cpu / bare.cpu:5.1f} x imports) "
        f"{cost.peak:6.2f} GB  {known}"
    )


def main() -> None:
    """Run all sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="`embedded`, or folders of ratings")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=[])
    parser.add_argument("--set", nargs="*", default=[], help="settings of our runs, NAME=VALUE")
    parser.add_argument("--one", choices=RIVALS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(rival(options.one, options.sources[0])))
        return
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        bare = min((cost_of([sys.executable, "-c", IMPORTS], out) for _ in range(3)), key=lambda cost: cost.cpu)
        print(line("imports", bare, {}, bare), flush=True)
        for number, source in enumerate(options.sources):
            print(source)
            folder = Path(place) / str(number)
            named = [] if source == "embedded" else ["--data", source]
            changes = [each for change in options.set for each in ("--set", change)]
            run = [sys.executable, "-m", "hierfed", "run", "hierarchical", "--protocol", "warm", *named, *changes]
            cost = cost_of([*run, "--quiet", "--out", str(folder)], out)
            result = json.loads((folder / "hierarchical" / "result.json").read_text(encoding="utf-8"))
            figures = {"rmse": result["users"]["rmse_after"], "ndcg@10": result["ranking"]["ndcg@10"]}
            print(line("hierfed", cost, figures, bare), flush=True)
            for name in options.rivals:
                given = "embedded" if source == "embedded" else source
                cost = cost_of([sys.executable, __file__, given, "--one", name], out)
                found = json.loads(out.read_text(encoding="utf-8").splitlines()[-1])
                print(line(name, cost, found, bare), flush=True)
            parts = ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items())
            print(f"  of the run, wall seconds: {parts}; digest {result['digest'][:16]}", flush=True)


if __name__ == "__main__":
    main()
