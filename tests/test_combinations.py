"""The table of docs/rounds.md: each rule, step and protection in rounds of each shape works, or says why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from hierfed.data.division import allocate, load_dataset
from hierfed.deployment.edges import why_no_edges
from hierfed.deployment.plan import check_deployable
from hierfed.engines.rounds import round_of
from hierfed.engines.shapes import ENGINES, run_training
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import SettingsError
from hierfed.federated.settings import FederationSettings, TrainingSettings
from hierfed.federated.tables import RULES, STEPS
from hierfed.generated.files import write_world
from hierfed.methods import Case, prepare
from hierfed.private_randomness import foreseeable_streams
from hierfed.settings import load_settings

DOCS = Path(__file__).parents[1] / "docs" / "rounds.md"
TOPOLOGIES, MODES = (get_args(FederationSettings.model_fields[name].annotation) for name in ("topology", "mode"))
SHAPES = tuple(product(TOPOLOGIES, MODES))
RULE_OPTIONS: dict[str, dict[str, Any]] = {f"rule `{rule}`": {"rule": rule} for rule in RULES}
STEP_OPTIONS: dict[str, dict[str, Any]] = {f"step `{step}`": {"steps": [step]} for step in STEPS}
PROTECTIONS: dict[str, dict[str, Any]] = {
    "no protection": {},
    "secure sums": {"secure_sums": True},
    "privacy of examples": {"privacy_unit": "example"},
    "privacy of nodes": {"privacy_unit": "node", "secure_sums": True},
}
OTHERS: dict[str, dict[str, Any]] = {
    "half of the nodes a round": {"participation": 0.5},
    "groups": {"groups": 2, "rule": "median"},
    "ledger kept": {"ledger": "keep"},
}
NEEDS: dict[str, dict[str, Any]] = {"scaffold": {"optimizer": "sgd"}, "dyn": {"proximal": 0.1}}
LOCAL: dict[str, dict[str, Any]] = {
    f"{name} `{value}`": {name: value, **NEEDS.get(value, {})}
    for name in ("own_model", "correction", "kept")
    for value in get_args(TrainingSettings.model_fields[name].annotation)
    if value != "none"
}
SINGLE = RULE_OPTIONS | STEP_OPTIONS | PROTECTIONS | OTHERS | LOCAL
SMALL: dict[str, Any] = {
    "protocol": "warm",
    "nodes": 4,
    "partition": "users",
    "personal_nodes": 4,
    "personal_partition": "users",
    "rounds": 1,
    "local_epochs": 1,
    "hidden": [2],
    "dropout": 0.0,
    "output_bias": "random",
    "ledger": "none",
}


def of_shape(shape: tuple[str, str]) -> dict[str, Any]:
    """The settings of a small network's rounds of this shape."""
    fan_out = {"fan_out": 2} if shape[0] == "tree" else {}
    return {**SMALL, **fan_out, "topology": shape[0], "mode": shape[1]}


def reason(shape: tuple[str, str], options: dict[str, Any]) -> str:
    """The reason why a network's rounds of this shape cannot have these options; empty where they can."""
    try:
        load_settings("network", {**of_shape(shape), **options})
    except SettingsError as error:
        return str(error)
    return ""


def of_server(options: dict[str, Any]) -> str:
    """The reason why `hierfed server` with nodes cannot have these options; empty where it can."""
    return of_real("star", options)


def of_late_server(options: dict[str, Any]) -> str:
    """The same of one whose nodes answer when they can."""
    return of_real("star", {"mode": "async", **options})


def of_edges(options: dict[str, Any]) -> str:
    """The same of one with `hierfed edge` between it and nodes."""
    changes = {"rule": "exact_sum", **options}
    return of_real("star", changes) or why_no_edges(load_settings("network", {**SMALL, **changes}))


def of_peers(options: dict[str, Any]) -> str:
    """The same of `hierfed peer`."""
    return of_real("gossip", options)


def of_real(topology: str, options: dict[str, Any]) -> str:
    """The reason why no real machines can train a network with these options; empty where they can."""
    changes = {"topology": topology, **options}
    try:
        check_deployable(load_settings("network", {**SMALL, **changes}), topology)
    except SettingsError as error:
        return str(error)
    return ""


REAL = {"server, sync": of_server, "server, async": of_late_server, "edges": of_edges, "peers": of_peers}


def table(shapes: Mapping[str, Callable[[dict[str, Any]], str]], reasons: dict[str, int]) -> str:
    """A table of the reasons that each shape has against each option, by number, as Markdown."""
    lines = ["| | " + " | ".join(shapes) + " |", "|---|" + "---|" * len(shapes)]
    for name, options in SINGLE.items():
        cells = []
        for against in shapes.values():
            found = against(options)
            text = re.sub(r"(training\.[a-z_]+|federation\.rule|privacy_unit) '[a-z_]+'", r"\1", found)
            text = re.sub(r"(rule|step) '[a-z_0-9]+'", r"the \1", text)
            cells.append(f"({reasons.setdefault(text, len(reasons) + 1)})" if text else "works")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables() -> list[str]:
    """The tables of one process and of real machines, and the reasons in both."""
    reasons: dict[str, int] = {}
    simulated = table({", ".join(shape): partial(reason, shape) for shape in SHAPES}, reasons)
    real = table(REAL, reasons)
    return [simulated, real, "\n".join(f"{number}. {text}" for text, number in reasons.items())]


@pytest.mark.parametrize("part", tables(), ids=["in one process", "on real machines", "reasons"])
def test_the_docs_have_the_tables(part):
    assert part in DOCS.read_text(encoding="utf-8")


def test_late_answers_of_real_nodes_go_with_what_simulated_ones_go_with():
    for options in combinations():
        if not reason(("star", "async"), options):
            assert not of_late_server(options), options


def test_every_shape_has_an_engine_or_a_reason():
    for shape in SHAPES:
        assert bool(reason(shape, {})) == (shape not in ENGINES)


def combinations() -> list[dict[str, Any]]:
    """Every step and protection with the sum, with a rule that takes means, and with one for every method."""
    rules = [{"rule": rule} for rule in ("sum", "exact_sum", "median", "screen")]
    steps: list[dict[str, Any]] = [{}, *STEP_OPTIONS.values()]
    return [{**rule, **step, **protection} for rule, step, protection in product(rules, steps, PROTECTIONS.values())]


@pytest.mark.parametrize("shape", [shape for shape in ENGINES if shape != ("star", "sync")], ids="-".join)
def test_options_work_together_where_each_works_and_a_star_takes_both(shape):
    """So the table of single options tells all: no shape refuses, or takes, what its column does not say."""
    for options in combinations():
        parts = [{key: options[key]} for key in ("rule", "steps") if key in options]
        parts.append({key: options[key] for key in ("privacy_unit", "secure_sums") if key in options})
        alone = any(reason(shape, part) for part in parts)
        together = bool(reason(("star", "sync"), options))
        assert bool(reason(shape, options)) == (alone or together), options


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 users who rate 30 items."""
    place = tmp_path_factory.mktemp("combinations") / "world"
    write_world(place, users=20, items=30, ratings=450, seed=3)
    return str(place)


@pytest.fixture
def unwritten_is_nan() -> Iterator[None]:
    """Memory that nobody has written holds NaN, so that whoever reads it is found."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unwritten_is_nan")
@pytest.mark.parametrize("shape", [shape for shape in ENGINES if shape != ("star", "sync")], ids="-".join)
def test_what_is_not_refused_runs(shape, world):
    accepted = [
        options for options in [*combinations(), *OTHERS.values(), *LOCAL.values()] if not reason(shape, options)
    ]
    assert accepted
    plain = load_settings("network", {**of_shape(shape), "data.source": world})
    allocation = allocate(load_dataset(plain), plain)
    for options in accepted:
        settings = load_settings("network", {**of_shape(shape), **options, "data.source": world})
        limits, streams = settings.data.limits(allocation.dataset.ratings.limits), foreseeable_streams(0)
        case = Case(settings, allocation.dataset.catalogue, limits, streams=streams)
        how, method = round_of(settings), prepare(after_earlier_stages(case, allocation.nodes)).method
        assert run_training(method, allocation.nodes, 1, how=how).shared.finite
