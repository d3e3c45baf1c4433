"""This package's own models beside the anchors: a preset, run through the API.

The error is that of the personal models on the held-out rows, the ranking that of the model which recommends. CPU
seconds are those of choosing hyperparameters, the rounds and personalisation; loading, the run's own baselines and
ranking are not on the clock.
"""

import argparse
import time

from task import add_options, divide, report

import hierfed
from hierfed.observer import Observer
from hierfed.results import Result


class Clock(Observer):
    """Keeps the CPU seconds at which each stage of a run begins."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """Note when a stage begins."""
        self.began[name] = time.process_time()


def ours(preset: str, data: str, protocol: str, seed: int) -> tuple[Result, float]:
    """The result of a preset on the same split as the anchors', and the CPU seconds it learned for."""
    clock = Clock()
    same = {"protocol": protocol, "seed": seed, "data.join": ["links", "title", "none"], "data.unmatched": "keep"}
    run = hierfed.run(preset, data=data, observers=[clock], **same, **{"training.threads": 1})
    split = divide(run.outcome.dataset.ratings, protocol, seed)
    if run.result.data.split != split.sizes():
        raise ValueError(f"preset {preset} was judged on other rows than the anchors: {run.result.data.split}")
    return run.result, clock.began["baselines"] - clock.began.get("select", clock.began["train"])


def main() -> None:
    """Run a preset on one split and print one line of JSON."""
    parser = argparse.ArgumentParser(description="Judge a preset on one split.")
    parser.add_argument("--preset", default="hierarchical")
    add_options(parser)
    options = parser.parse_args()
    result, cpu = ours(options.preset, options.data, options.protocol, options.seed)
    sent = sum(record.bytes_up for record in result.rounds) / result.data.nodes
    figures = {"rmse": result.users.rmse_after, **result.ranking}
    report(options.preset, f"hierfed {hierfed.__version__}", figures, cpu, sent)


if __name__ == "__main__":
    main()
