"""The experiment, read as the method section of a paper: load, divide, tune, train, personalise, judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from hierfed.data.division import allocate, load_dataset, warnings_of
from hierfed.data.federation import Node
from hierfed.engines.in_process import FinishedRound
from hierfed.engines.rounds import with_own_rule
from hierfed.engines.shapes import run_training
from hierfed.engines.stages import after_earlier_stages
from hierfed.evaluation.collection import collect
from hierfed.evaluation.comparison import run_comparisons, summarise_data
from hierfed.evaluation.judging import judge_nodes, judge_round
from hierfed.evaluation.ranking import judge_scorers, lists_of
from hierfed.federated.contract import Contribution, SumMethod
from hierfed.federated.method import Trained, Tuned
from hierfed.federated.rules import Rule
from hierfed.ledger.record import ledger_of
from hierfed.methods import Case, needs_times, prepare, stages_from_rating
from hierfed.methods.kind import ModuleMaker
from hierfed.models.threads import one_torch_thread
from hierfed.observer import FirstRoundOnly, Observer, Observers, SharesOnly, tell
from hierfed.outcome import Outcome
from hierfed.private_randomness import foreseeable_streams
from hierfed.results import RoundRecord
from hierfed.settings import Settings
from hierfed.stopwatch import Stopwatch


def run_experiment(
    settings: Settings,
    *,
    table: pl.DataFrame | None = None,
    module: ModuleMaker | None = None,
    rule: Rule | None = None,
    observers: Sequence[Observer] = (),
) -> Outcome:
    """Run one seed of an experiment; nothing is written.

    table: the ratings themselves, in place of the source that the settings name.
    module: makes the network from the number of features, in place of the settings' own; it must not hold buffers.
    torch's generator is seeded for it. rule: makes the totals of rounds, in place of the settings' own.
    observers: watch the run, and may end its training; the run then ends with its finished rounds.
    """
    observer = Observers(observers)
    watch, shares, how = Stopwatch(observer), SharesOnly(observer), with_own_rule(settings, rule, observer.recorded)
    with one_torch_thread():
        watch.start("data")
        allocation = allocate(load_dataset(settings, observer.download, table), settings, needs_times(settings))
        tell(observer, "warning", warnings_of(allocation))
        settings, dataset, split = allocation.settings, allocation.dataset, allocation.split
        nodes, personal_nodes, parts, rated = *allocation.all_nodes, allocation.parts(), allocation.rated()
        limits, streams = settings.data.limits(dataset.ratings.limits), foreseeable_streams(settings.seed)
        case = Case(settings, dataset.catalogue, limits, module=module, streams=streams)
        case = after_earlier_stages(case, nodes, how)
        prepared, tuned, lists = prepare(case), Tuned(settings), None

        if prepared.method.tunes(settings):
            watch.start("select")

            def try_out(candidate: SumMethod, some: Sequence[Node], rounds: int) -> Trained:
                return run_training(candidate, some, rounds, how=how.with_everyone(), observer=shares)

            tuned = prepared.method.tune(settings, nodes, try_out, how.rule)
            prepared = prepare(replace(case, settings=tuned.settings))
            tuned, lists = prepared.method.tune_lists(tuned, nodes, try_out, how.rule)

        watch.start("train")
        method = prepared.method
        first, *later = stages_from_rating(replace(case, settings=tuned.settings))
        rounds: list[RoundRecord] = []

        def judge(finished: FinishedRound) -> None:
            rounds.append(judge_round(finished, method, rated.test))
            observer.round(rounds[-1])

        ledger = ledger_of(settings, dataset.catalogue, nodes, lambda done: prepared.privacy(nodes, done))
        recorders = [] if ledger is None else [ledger]
        trained = run_training(method, nodes, first.rounds, judge, how, Observers([observer, *recorders]), first.name)
        tell(observer, "note", method.notes(trained.shared))
        if not rounds:  # A method that sends nothing is judged as it is.
            judge(FinishedRound(0, trained.shared, Contribution({}), 0, 0, 0, 0.0))
        models = {**case.models, first.name: trained.shared}

        watch.start("personalise")
        private = trained.private if (same := personal_nodes is nodes) else [None] * len(personal_nodes)
        personal_models = method.personalise(trained.shared, personal_nodes, private)
        judged = judge_nodes(method, trained.shared, personal_nodes, personal_models, observer.judged)
        apart = method.user_models and not same
        federated_models = method.personalise(trained.shared, nodes, trained.private) if apart else []

        watch.start("baselines")
        # Who has asked for an end gets what is there: no rival is trained any more.
        ended = trained.shared.round < first.rounds and not observer.should_continue()
        baselines, new_users = run_comparisons(
            settings, dataset, rated, method, trained.shared, nodes, personal_nodes, with_rivals=not ended
        )

        if later:
            watch.start("rank")
        for stage in later:
            models[stage.name] = run_training(
                stage.build(models),
                nodes,
                stage.rounds,
                how=how.with_everyone(),
                observer=Observers([shares, *recorders, *([FirstRoundOnly()] if ended else [])]),
                stage=stage.name,
            ).shared
        scorers = method.scorers(tuned.settings, models, personal_models, parts.personal_train)
        rankers = judge_scorers(scorers, *parts.personal, dataset.items, **lists_of(settings, observer.note))
        watch.stop()

    result = collect(
        settings,
        prepared,
        nodes,
        trained.shared,
        data=summarise_data(settings, dataset, split, prepared, len(nodes)),
        rounds=rounds,
        asked=first.rounds,
        judged=judged,
        baselines=baselines,
        selection=tuned.record,
        lists=lists,
        new_users=new_users,
        rankers=rankers,
        seconds=watch.seconds(),
    )
    observer.result(result)
    return Outcome(
        settings,
        tuned.settings,
        result,
        dataset,
        method,
        models,
        personal_nodes,
        personal_models,
        nodes,
        federated_models,
        split,
        trained.private,
        ledger,
    )
