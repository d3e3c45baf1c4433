"""How fast is a round of the hierarchical model, against the per-rating loop in numba that it was first written as?

    python benchmarks/factors.py --data FOLDER --oracle FOLDER [--python INTERPRETER] [--repeats 5]

FOLDER after --data holds MovieLens' ratings.csv and movies.csv; the one after --oracle the prototype's scripts, which
are no part of this project and need numba and pandas: INTERPRETER has them. Both fit the same ratings with genres and
years alone, rank 8 and no threshold, on one pool, in processes of their own and by turns, one thread each; the first
round of each turn, which compiles, is left out. RMSE is that of the factors without kriging on the same test rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

PEERS = Path(__file__).parent / "peers"
TARGET = 4


def run(python: str, peer: str, *arguments: str) -> dict:
    """One turn of one of the two."""
    command = [python, str(PEERS / f"{peer}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{peer} did not run: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Time both by turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    rounds = str(options.rounds)
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        split = str(Path(folder) / "split.npz")
        for _ in range(options.repeats):
            theirs.append(run(options.python, "factors_oracle", options.oracle, options.data, split, rounds))
            ours.append(run(sys.executable, "factors_peer", options.data, split, rounds))
    for name, turns in (("numba prototype", theirs), ("hierfed", ours)):
        seconds = [second for turn in turns for second in turn["seconds"]]
        least, middle = 1000 * min(seconds), 1000 * median(seconds)
        print(f"{name:16} median {middle:6.1f} ms a round, least {least:6.1f} ms, RMSE {turns[0]['rmse']:.4f}")
    pairs = [median(first["seconds"]) / median(second["seconds"]) for first, second in zip(theirs, ours, strict=True)]
    least = min(min(turn["seconds"]) for turn in theirs) / min(min(turn["seconds"]) for turn in ours)
    told = ", ".join(f"{ratio:.1f}" for ratio in pairs)
    print(f"ratio of medians by turn: {told}; median {median(pairs):.2f}; of the least {least:.2f} (aim: >= {TARGET})")


if __name__ == "__main__":
    main()
