"""Everything that a federation's settings can name: a line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hierfed.federated.centred_clipping import centred_clipping
from hierfed.federated.deflate import Deflate
from hierfed.federated.eden import Eden
from hierfed.federated.exact_sum import EXACT_SUM
from hierfed.federated.fed_adagrad import FedAdagrad
from hierfed.federated.fed_adam import FedAdam
from hierfed.federated.fed_avgm import FedAvgM
from hierfed.federated.fed_yogi import FedYogi
from hierfed.federated.geometric_median import geometric_median
from hierfed.federated.graphs import Graph, complete, exponential, random_regular, ring
from hierfed.federated.krum import krum, multi_krum
from hierfed.federated.median import median
from hierfed.federated.robust_mean import Centre, RobustMean
from hierfed.federated.rules import OPEN_SUM, RuleKind
from hierfed.federated.screen import Screen
from hierfed.federated.server_optimizers import PlainStep, ServerOptimizer
from hierfed.federated.speeds import Speed, constant, lognormal, one_slow, sleeping
from hierfed.federated.steps import StepKind
from hierfed.federated.top_k import TopK
from hierfed.federated.trimmed_mean import trimmed_mean
from hierfed.federated.words import Words

if TYPE_CHECKING:
    from hierfed.federated.settings import FederationSettings


def _robust(name: str, centre: Centre) -> RuleKind:
    return RuleKind(lambda settings, averaged: RobustMean(name, centre, settings.rule_share, averaged))


RULES: Mapping[str, RuleKind] = {
    "sum": RuleKind(lambda settings, averaged: OPEN_SUM, single=False, every_method=True, adds=True),
    "exact_sum": RuleKind(lambda settings, averaged: EXACT_SUM, single=False, every_method=True, adds=True),
    "trimmed_mean": _robust("trimmed_mean", trimmed_mean),
    "median": _robust("median", median),
    "krum": _robust("krum", krum),
    "multi_krum": _robust("multi_krum", multi_krum),
    "geometric_median": _robust("geometric_median", geometric_median),
    "centred_clipping": _robust("centred_clipping", centred_clipping),
    "screen": RuleKind(lambda settings, averaged: Screen(averaged), every_method=True),
}
"""The rules that make one total of contributions."""

STEPS: Mapping[str, StepKind] = {
    "words16": StepKind(lambda settings, seed, averaged: Words(16, seed), bits=16),
    "words8": StepKind(lambda settings, seed, averaged: Words(8, seed), bits=8),
    "deflate": StepKind(lambda settings, seed, averaged: Deflate(), single=True),
    "eden1": StepKind(lambda settings, seed, averaged: Eden(1, averaged, seed), single=True, averaged=True),
    "eden2": StepKind(lambda settings, seed, averaged: Eden(2, averaged, seed), single=True, averaged=True),
    "top_k": StepKind(lambda settings, seed, averaged: TopK(averaged), single=True, averaged=True),
}
"""The steps that change what nodes send."""

GRAPHS: Mapping[str, Graph] = {
    "exponential": exponential,
    "ring": ring,
    "random_regular": random_regular,
    "complete": complete,
}
"""The graphs over which peers exchange sums."""

SPEEDS: Mapping[str, Speed] = {
    "constant": constant,
    "lognormal": lognormal,
    "one_slow": one_slow,
    "sleeping": sleeping,
}
"""The simulated speeds of nodes."""

SERVER_OPTIMIZERS: Mapping[str, Callable[[FederationSettings], ServerOptimizer]] = {
    "none": lambda settings: PlainStep(settings.server_learning_rate),
    "avgm": lambda settings: FedAvgM(settings.server_learning_rate),
    "adagrad": lambda settings: FedAdagrad(settings.server_learning_rate),
    "adam": lambda settings: FedAdam(settings.server_learning_rate),
    "yogi": lambda settings: FedYogi(settings.server_learning_rate),
}
"""The optimizers by which the server moves parameters by the nodes' mean change."""
