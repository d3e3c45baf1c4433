"""Do presets still give the numbers that were frozen? Run it after a change that should move none.

    python benchmarks/digests.py --data FOLDER [--only paper network] [--write]

The folder holds MovieLens ml-latest-small of October 2016 with Kaggle's movies_metadata.csv. Each preset runs with seed
0 (about two minutes of CPU for all); its digest and RMSE are compared with tests/contracts/digests.json. The exit code
is 1 where a digest differs. --write freezes what was found, after a change that moves numbers and says so.
"""

import argparse
import json
from pathlib import Path

from hierfed.experiment import run_experiment
from hierfed.settings import load_settings

FROZEN = Path(__file__).parents[1] / "tests" / "contracts" / "digests.json"


def main() -> None:
    """Run the presets and print a line each."""
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of the ratings")
    parser.add_argument("--only", nargs="+", choices=sorted(frozen), default=sorted(frozen))
    parser.add_argument("--write", action="store_true", help="freeze what is found")
    options = parser.parse_args()
    moved = 0
    for name in options.only:
        preset, _, protocol = name.partition(" ")
        changes = {"seed": 0, "data.source": options.data} | ({"protocol": protocol} if protocol else {})
        result = run_experiment(load_settings(preset, changes)).result
        found = {"global_rmse": result.final_rmse, "personal_rmse": result.users.rmse_after}
        same = result.digest == frozen[name]["digest"]
        moved += not same
        away = max(abs(found[key] - frozen[name][key]) for key in found)
        print(f"{name:18} {'same' if same else 'MOVED'}  RMSE off by {away:.1e}  {result.digest[:16]}", flush=True)
        frozen[name] = {"digest": result.digest, **found}
    if options.write:
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(each)}" for name, each in frozen.items())
        FROZEN.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    raise SystemExit(moved > 0 and not options.write)


if __name__ == "__main__":
    main()
