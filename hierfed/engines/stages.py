"""The trainings before the one of the model of ratings, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hierfed.data.federation import Node
from hierfed.engines.rounds import PLAIN, Round
from hierfed.engines.shapes import run_training
from hierfed.federated.contract import SharedModel
from hierfed.methods import Case, earlier_stages


def after_earlier_stages(case: Case, nodes: Sequence[Node], how: Round = PLAIN) -> Case:
    """The case with the models of the earlier stages, trained on these nodes."""
    models: dict[str, SharedModel] = {}
    for stage in earlier_stages(case):
        trained = run_training(stage.build(models), nodes, stage.rounds, how=how.with_everyone(), stage=stage.name)
        models[stage.name] = trained.shared
    return replace(case, models=models)
