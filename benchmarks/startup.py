"""How long is a whole run, from the shell's prompt to the report, against merely importing its libraries?

    python benchmarks/startup.py [--repeats 3]

Times `hierfed run paper` on embedded data and `python -c "import torch, polars, matplotlib.pyplot"` by turns, warm, and
prints the least of each, their ratio, and where the run's time went.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = [sys.executable, "-c", "import torch, polars, matplotlib.pyplot"]
TARGET = 3


def seconds(command: list[str]) -> float:
    """Wall seconds of one command."""
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Time both by turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    imports, runs = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "-m", "hierfed", "run", "paper", "--quiet", "--out", folder]
        seconds(IMPORTS)
        for _ in range(options.repeats):
            imports.append(seconds(IMPORTS))
            runs.append(seconds(run))
        parts = json.loads((Path(folder) / "paper" / "result.json").read_text(encoding="utf-8"))["seconds"]
    print(f"imports of torch, polars and matplotlib  {min(imports):6.2f} s")
    print(f"hierfed run paper, embedded data         {min(runs):6.2f} s")
    print(f"ratio                                    {min(runs) / min(imports):6.1f}   (aim: <= {TARGET})")
    print("of the run: " + ", ".join(f"{name} {value:.2f} s" for name, value in parts.items()))


if __name__ == "__main__":
    main()
