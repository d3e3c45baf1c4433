"""What the short cuts of kriging move and save: single precision and left out levels of users with many ratings.

    python benchmarks/scaling/precision.py SOURCE

SOURCE: `embedded`, or a folder of ratings. Trains once under protocol warm, then judges the personal models of all test
rows with each short cut: prints CPU seconds, RMSE, and the most that a prediction and a deviation move by.
"""

import argparse
import time

import numpy as np

from hierfed.data.division import allocate, load_dataset
from hierfed.engines.in_process import run_rounds
from hierfed.methods import Case, prepare
from hierfed.models import kriging, noise_levels
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

NEVER = 1 << 40
WAYS = {
    "neither": (NEVER, NEVER),
    "single": (kriging.SINGLE_FROM, NEVER),
    "both": (kriging.SINGLE_FROM, noise_levels.PILOT),
}


def main() -> None:
    """Train, and print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    source = parser.parse_args().source
    named = {} if source == "embedded" else {"data.source": source}
    asked = load_settings("hierarchical", {**named, "protocol": "warm", "select": False, "threads": 1})
    with one_torch_thread():
        allocation = allocate(load_dataset(asked, lambda *given: None, None), asked)
        settings, dataset, nodes = allocation.settings, allocation.dataset, allocation.nodes
        method = prepare(Case(settings, dataset.catalogue, settings.data.limits(dataset.ratings.limits))).method
        trained = run_rounds(method, nodes, settings.training.rounds)
        models = method.personalise(trained.shared, nodes, trained.private)
        wanted = np.concatenate([node.test.value for node in nodes])
        first: tuple[np.ndarray, np.ndarray] | None = None
        for name, (kriging.SINGLE_FROM, noise_levels.PILOT) in WAYS.items():
            began = time.process_time()
            found = [model.distribution(node.test.untimed) for model, node in zip(models, nodes, strict=True)]
            seconds = time.process_time() - began
            mean = np.concatenate([model.within(each).numpy() for model, (each, _) in zip(models, found, strict=True)])
            deviation = np.sqrt(np.concatenate([each.numpy() for _, each in found]))
            first = first or (mean, deviation)
            moved = (float(np.abs(each - other).max()) for each, other in zip((mean, deviation), first, strict=True))
            rmse = float(np.sqrt(np.mean((mean - wanted) ** 2)))
            told = "  ".join(f"{each:.1e}" for each in moved)
            print(f"{name:8} {seconds:7.2f} s CPU  RMSE {rmse:.6f}  moved at most {told}", flush=True)


if __name__ == "__main__":
    main()
