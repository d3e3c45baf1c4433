"""Selection of the kernel's amplitudes and its share of noise; see hierfed.methods.hierarchical.selection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from hierfed.data.ratings import Ratings
from hierfed.methods.hierarchical.settings import SelectionSettings
from hierfed.methods.hierarchical.validation import Means, Validators
from hierfed.models.kernel import KernelSettings
from hierfed.results import Trial


def best_kernel(
    kernel: KernelSettings,
    wanted: SelectionSettings,
    means_of: Callable[[KernelSettings, bool], Means],
    at_times: bool,
    validators: Validators,
    rows: Mapping[int, Ratings],
) -> tuple[KernelSettings, list[Trial]]:
    """The kernel with the best share of noise, then the best amplitudes, then those by time, and what was tried.

    means_of: what a kernel expects of the rows, where their times are known (True) and where not.
    at_times: whether they are.
    """
    expected, trials = cache(means_of), list[Trial]()

    def gains(before: Means, after: Means, timed: bool) -> bool:
        if timed:  # A few users gain nearly all of it, so that its standard error is large.
            return validators.rmse_of(after, rows) < validators.rmse_of(before, rows) - wanted.least_gain
        return validators.gains(before, after, rows)

    def walk(setting: str, values: Sequence[float], candidates: Sequence[KernelSettings], timed: bool = False) -> int:
        """The place of the first candidate, or of the last of those after it that each gain on the one before."""
        # A kernel that uses no times predicts the same with and without those of the rows.
        found, chosen = [expected(candidates[0], timed and candidates[0].time.used)], 0
        for place, candidate in enumerate(candidates[1:], 1):
            found.append(expected(candidate, timed and candidate.time.used))
            if not gains(found[place - 1], found[place], timed):
                break
            chosen = place
        # The first value may have been tried in a walk before, the other way.
        trials[:] = [each for each in trials if (each.setting, each.value) != (setting, values[0])]
        for place, means in enumerate(found):
            rmse = validators.rmse_of(means, rows)
            trials.append(Trial(setting=setting, value=values[place], rmse=rmse, chosen=place == chosen))
        return chosen

    shares = [replace(kernel, noise_share=share) for share in wanted.noise_shares]
    kernel = shares[walk("noise_share", wanted.noise_shares, shares)]
    # Down from the first amplitude and, if that gains nothing, up from it.
    upwards, plain = (wanted.amplitudes[0], *wanted.larger_amplitudes), kernel
    for factors in (wanted.amplitudes, upwards):
        scaled = [plain.scaled(each) for each in factors]
        place = walk("amplitude", factors, scaled)
        kernel = scaled[place]
        if place:
            break
    if at_times and kernel.time.used:
        timed = [replace(kernel, time=kernel.time.scaled(each)) for each in wanted.time_factors]
        kernel = timed[walk("time_factor", wanted.time_factors, timed, timed=True)]
    return kernel, trials
