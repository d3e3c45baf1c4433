"""A result as a run of the paper's preset leaves it: the same sizes, the same kind of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hierfed.methods import METHODS
from hierfed.results import (
    Baselines,
    DataSummary,
    Intervals,
    JoinSummary,
    NewUserRecord,
    NodeRecord,
    PairedDifference,
    PrivacyRecord,
    RankingRecord,
    ReleaseRecord,
    Result,
    RoundRecord,
    Seconds,
    Selection,
    Spread,
    Summary,
    ThresholdRecord,
    Trial,
    UserSummary,
    Verdict,
)

MakeResult = Callable[..., Result]


def make_rounds(number: int) -> list[RoundRecord]:
    falling = 1.065 + 1.035 * np.exp(-1.1 * np.arange(number))
    losses = 1.15 + 4.55 * np.exp(-0.35 * np.arange(4 * number)).reshape(number, 4)
    return [
        RoundRecord(
            round=index + 1,
            train_loss=losses[index].tolist(),
            global_rmse=rmse,
            global_mae=0.8 * rmse,
            global_user_macro_rmse=1.01 * rmse,
            bytes_up=451_616,
            bytes_down=451_616,
            seconds=0.05,
        )
        for index, rmse in enumerate(falling.tolist())
    ]


def make_nodes(names: list[str], generator: np.random.Generator) -> list[NodeRecord]:
    nodes = []
    for index, name in enumerate(names):
        before = float(generator.normal(1.05, 0.04))
        gain = -0.0117 if index == len(names) - 1 and len(names) > 1 else float(generator.uniform(0.004, 0.07))
        nodes.append(
            NodeRecord(
                node=name,
                users=25,
                train_rows=1_310,
                test_rows=328,
                rmse_before=before,
                rmse_after=before - gain,
                mae_before=0.8 * before,
                mae_after=0.8 * (before - gain),
                user_macro_rmse_before=before,
                user_macro_rmse_after=before - gain,
                gain=gain,
                train_gain=gain + 0.02,
                weight_change_l2=float(generator.uniform(3.8, 5.3)),
            )
        )
    return nodes


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """A function that makes a result; its keywords replace fields."""

    def make(nodes: int = 8, rounds: int = 10, users: int = 202, seed: int = 0, **replaced: Any) -> Result:
        generator = np.random.default_rng(seed)
        records = make_nodes([str(index + 1) for index in range(nodes)], generator)
        gains = generator.normal(0.03, 0.05, users)
        harmed = sum(record.gain < 0 for record in records)
        fields: dict[str, Any] = {
            "name": "paper",
            "preset": "paper",
            "seed": seed,
            "words": METHODS["averaging"].words(),
            "settings": {"seed": seed, "network": {"hidden": [128, 64, 32], "dropout": 0.5}, "rounds": rounds},
            "data": DataSummary(
                source="movielens-small (2016) with TMDB metadata",
                ratings=44_989,
                users=671,
                items=2_830,
                nodes=nodes,
                rows_in=100_004,
                dropped={"no metadata under this id": 55_010, "doubled by a repeated metadata id": 5},
                join=JoinSummary(
                    name="paper",
                    kept=44_989,
                    kept_before_deduplication=44_989 + 5,
                    dropped=55_015,
                    warning="This join compares ids of two different catalogues: it gives films the wrong metadata",
                ),
                features=["popularity", "runtime", "vote_average"],
                missing_features=["vote_count", "revenue"],
                split={"federated_train": 6_298, "federated_test": 9_447, "personal_train": 10_480},
                scale=[0.5, 5.0],
            ),
            "rounds": make_rounds(rounds),
            "nodes": records,
            "users": UserSummary(
                users=users,
                rmse_before=1.0521,
                rmse_after=1.0257,
                mae_before=0.8417,
                mae_after=0.8206,
                macro_rmse_before=1.0633,
                macro_rmse_after=1.0311,
                share_worse=float(np.mean(gains < 0)) if users else float("nan"),
                gains=gains.tolist(),
            ),
            "baselines": Baselines(
                global_mean=1.0543,
                item_mean=1.0140,
                user_mean=0.9940,
                biases=0.9550,
                local_only=1.0902,
                centralised=1.0601,
            ),
            "personal_baselines": Baselines(
                global_mean=1.0488,
                item_mean=1.0102,
                user_mean=0.9871,
                biases=0.9466,
                local_only=1.0750,
                centralised=1.0533,
            ),
            "verdict": Verdict(
                beats_global_mean=False,
                beats_biases=False,
                personal_beats_biases=False,
                gain_mean=0.0264,
                gain_sd=0.0140,
                p_value=0.0021,
                nodes_harmed=harmed,
                users_harmed=int(np.sum(gains < 0)),
                words=[
                    "The global model does not beat predicting the mean: 1.0654 against 1.0543.",
                    "Personalisation lowers RMSE by 0.0264 per node (p = 0.002).",
                ],
            ),
            "digest": "5f" * 32,
            "seconds": Seconds(data=0.31, train=0.52, personalise=0.21, baselines=0.35, report=0.9, total=2.3),
        }
        return Result(**(fields | replaced))

    return make


@pytest.fixture
def result(make_result: MakeResult) -> Result:
    """A result of eight nodes and ten rounds."""
    return make_result()


UNDEFINED = float("nan")
NEW_USERS = [(0, 0.9387, 0.9499, 0.9408), (1, 0.9058, 0.9373, 0.9208), (5, 0.8670, 0.9132, 0.8921)]
NEW_USERS += [(50, 0.8068, 0.8655, 0.8463)]
RANKERS = [
    ("popularity", 0.2362, 0.1078, 0.7061),
    ("rating", 0.1294, 0.0566, 0.4129),
    ("ease", 0.4603, 0.2448, 0.8507),
    ("blend", 0.4631, 0.2483, 0.8607),
]


@pytest.fixture
def hierarchical(make_result: MakeResult) -> Result:
    """A result of the hierarchical model on new users: 50 rounds of one loss each, and all that it finds besides."""
    result = make_result(rounds=50, users=201, name="hierarchical", preset="hierarchical")
    test = {"global_mean": 1.0165, "item_mean": 0.9497, "user_mean": 1.0165, "biases": 0.9499}
    held_out = {"global_mean": 1.0156, "item_mean": 0.9471, "user_mean": 0.9211, "biases": 0.8585}
    trials = [("amplitude", 1.0, 0.8576, False), ("amplitude", 0.5, 0.8512, True), ("noise_share", 0.4, 0.8512, True)]
    undefined = {"train_gain": UNDEFINED, "weight_change_l2": UNDEFINED}
    return result.model_copy(
        update={
            "settings": {"method": "hierarchical"},
            "words": METHODS["hierarchical"].words(),
            "data": result.data.model_copy(update={"protocol": "cold"}),
            "rounds": [each.model_copy(update={"train_loss": each.train_loss[:1]}) for each in result.rounds],
            "nodes": [node.model_copy(update=undefined) for node in result.nodes],
            "users": result.users.model_copy(update={"rmse_before": result.final_rmse, "rmse_after": 0.7823}),
            "baselines": Baselines(**test, local_only=0.9813, centralised=UNDEFINED),
            "personal_baselines": Baselines(**held_out, local_only=0.8115, centralised=UNDEFINED),
            "selection": Selection(
                rows=3_329,
                trials=[Trial(setting=name, value=value, rmse=rmse, chosen=won) for name, value, rmse, won in trials],
                deviation_scale=1.0153,
            ),
            "intervals": Intervals(level=0.9, coverage=0.9225, mean_width=2.6558),
            "new_users": [
                NewUserRecord(ratings=number, model=model, biases=biases, network=network)
                for number, model, biases, network in NEW_USERS
            ],
            "ranking": {"ndcg@10": 0.4631, "recall@20": 0.2483, "hr@10": 0.8607},
            "rankers": [
                RankingRecord(model=name, ndcg_at_10=ndcg, recall_at_20=recall, hr_at_10=hits)
                for name, ndcg, recall, hits in RANKERS
            ],
            "threshold": ThresholdRecord(min_raters=5, items=1_214, rows=1_439, rmse=0.8209, rmse_others=0.7748),
        }
    )


@pytest.fixture
def local(hierarchical: Result) -> Result:
    """The same users, each alone: no round, no loss, no byte."""
    nothing = {"train_loss": [], "round": 0, "bytes_up": 0, "bytes_down": 0}
    return hierarchical.model_copy(
        update={
            "name": "local",
            "preset": "local",
            "settings": {"method": "local"},
            "words": METHODS["local"].words(),
            "rounds": [hierarchical.rounds[-1].model_copy(update=nothing)],
            "baselines": hierarchical.baselines.model_copy(update={"local_only": UNDEFINED}),
            "personal_baselines": hierarchical.personal_baselines.model_copy(update={"local_only": UNDEFINED}),
            "selection": None,
            "new_users": [],
            "ranking": {},
            "rankers": [],
            "threshold": None,
        }
    )


@pytest.fixture
def private(make_result: MakeResult) -> Result:
    """A network whose nodes are hidden, with a warning; no loss is known."""
    result = make_result()
    release = ReleaseRecord(name="every round", count=10, sampling=1.0, clip_norm=1.5, noise_multiplier=2.01649)
    record = PrivacyRecord(
        unit="node",
        epsilon=8.0,
        epsilon_spent=7.9951,
        delta=1e-5,
        mechanism="Gaussian noise on clipped changes",
        accountant="rdp",
        releases=[release],
        warning="the noise is long",
    )
    rounds = [each.model_copy(update={"train_loss": []}) for each in result.rounds]
    return result.model_copy(update={"privacy": record, "rounds": rounds})


@pytest.fixture
def warm_hierarchical(hierarchical: Result) -> Result:
    """The hierarchical model on users whom the rounds knew: one set of rows, and of baselines."""
    data = hierarchical.data.model_copy(update={"protocol": "warm"})
    changes = {"data": data, "baselines": hierarchical.personal_baselines, "new_users": []}
    return hierarchical.model_copy(update=changes)


@pytest.fixture
def summary() -> Summary:
    """Three seeds of the paper's preset."""
    return make_summary("paper", 1.0654, 1.0257)


@pytest.fixture
def better_summary() -> Summary:
    """Three seeds of a preset that does better."""
    return make_summary("network", 0.9820, 0.8614)


def make_summary(preset: str, global_rmse: float, rmse_after: float) -> Summary:
    def spread(mean: float) -> Spread:
        return Spread(mean=mean, sd=0.0091, min=mean - 0.01, max=mean + 0.01)

    return Summary(
        name=preset,
        preset=preset,
        words=METHODS["averaging"].words(),
        seeds=[0, 1, 2],
        figures={
            "global_rmse": spread(global_rmse),
            "rmse_before": spread(rmse_after + 0.0264),
            "rmse_after": spread(rmse_after),
            "gain_per_node": spread(0.0264),
            "baseline_global_mean": spread(1.0543),
        },
        differences=[
            PairedDifference(
                first="rmse_before", second="rmse_after", mean=0.0264, sd=0.0140, p_value=0.0004, p_holm=0.0012
            ),
            PairedDifference(first="global_rmse", second="baseline_global_mean", mean=0.0111, sd=0.004, p_value=None),
        ],
        verdict=["The global model does not beat predicting the mean."],
    )


@pytest.fixture(scope="module")
def folder_with_figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose figures are placeholders, for pages whose figures do not matter."""
    from hierfed.report.figures import FIGURES

    folder = tmp_path_factory.mktemp("page")
    (folder / "figures").mkdir()
    for name in FIGURES:
        (folder / "figures" / f"{name}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return folder


@pytest.fixture
def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Figure], list[Text]]]:
    """A function that draws a figure and gives every text that was really drawn: no ticks beyond the axes' limits."""
    seen: list[Text] = []
    draw = Text.draw

    def record(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(self)
        draw(self, renderer, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", record)

    def texts_of(figure: Figure) -> list[Text]:
        seen.clear()
        figure.canvas.draw()
        return [text for text in dict.fromkeys(seen) if text.get_visible() and text.get_text().strip()]

    yield texts_of
