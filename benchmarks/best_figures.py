"""The best figures so far, in best_figures.json: no later change may drift from them."""

import json
from collections.abc import Mapping
from pathlib import Path

BEST = Path(__file__).parent / "best_figures.json"
DRIFT = 0.0005


def compare(figures: Mapping[str, float], rounds: int, keep: bool, path: Path = BEST) -> bool:
    """Whether a figure drifted: is worse than the best so far by more than DRIFT. Prints each that did.

    figures: RMSE by name. rounds: that were trained. keep: whether figures that are better, or new, are written.
    """
    best = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    drifted = False
    for name, found in figures.items():
        if name in best and found - best[name]["rmse"] > DRIFT:
            drifted = True
            print(f"{name}: {found:.5f} DRIFTED from the best figure so far, {best[name]['rmse']:.5f}", flush=True)
        if keep and (name not in best or found < best[name]["rmse"]):
            best[name] = {"rmse": round(found, 6), "rounds": rounds}
            path.write_text(json.dumps(best, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return drifted
