"""A setting chosen on validation rows, then two presets side by side on the same seeds, in five lines."""

import hierfed

best = hierfed.sweep("network", {"learning_rate": [0.001, 0.01]}, data="ratings.csv", protocol="warm", rounds=2).best
found = hierfed.compare(["network", "item_biases"], data="ratings.csv", seeds=2, protocol="warm", rounds=2, **best)
print(best, found.to_frame().select("preset", "seed", "rmse_after"), sep="\n")
