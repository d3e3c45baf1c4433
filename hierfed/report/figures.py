"""The figures of a run: one table, with how each is drawn and the results that have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from hierfed.report import contents, headlines, words
from hierfed.report.model_figures import baselines
from hierfed.report.node_figures import node_rmse, weight_change
from hierfed.report.round_figures import global_rmse, training_loss
from hierfed.report.style import save, save_for_print, styled
from hierfed.report.tables import Table
from hierfed.report.user_figures import new_users, ranking, user_gain
from hierfed.results import Result


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    draw: draws it from a result and its headline.
    headline: the finding that it shows, in one line.
    caption: how to read it; a method may say otherwise, see MethodWords.captions.
    applies: True for the results that have what it shows.
    captions: in place of caption where models are judged on other rows, by the key in words.ROW_SETS.
    section: the heading of a section of its own, with the table; empty where it stands among the others.
    table: the numbers in it, for page and terminal.
    """

    draw: Callable[[Result, str], Canvas]
    headline: Callable[[Result], str]
    caption: str
    applies: Callable[[Result], bool]
    captions: Mapping[str, str] = field(default_factory=dict)
    section: str = ""
    table: Callable[[Result], Table] | None = None

    def __call__(self, result: Result) -> Canvas:
        """Draw it."""
        return self.draw(result, self.headline(result))


SAME_ROWS = "Every model against the simple ones, on the same rows; best on top."

FIGURES: Mapping[str, Figure] = {
    "global_rmse": Figure(
        global_rmse,
        headlines.global_headline,
        "RMSE of the global model after each round, on rows that no node trained on. A model that knows nothing but "
        "the mean rating scores the dashed line; one bias per user and per item scores the dotted line. Below a line "
        "is better than that baseline.",
        lambda result: contents.had_rounds(result) and words.any_measured(result.rounds, "global_rmse"),
        {
            "cold": "RMSE of the global model after each round, on rows of users that no round has seen, none of whose "
            "ratings are known. A model that knows nothing but the mean rating scores the dashed line; one bias per "
            "item scores the dotted line. Below a line is better than that baseline.",
        },
    ),
    "training_loss": Figure(
        training_loss,
        headlines.loss_headline,
        "Squared error on the training rows after every round. It shows that training converged, not that the model "
        "is good.",
        lambda result: any(record.train_loss for record in result.rounds),
    ),
    "node_rmse": Figure(
        node_rmse,
        headlines.node_headline,
        "Each row is a node: from the open circle (global model) to the filled mark (personal model), on held-out "
        "rows. To the left is better. A triangle on a dashed line is a node that personalisation made worse.",
        lambda result: words.any_measured(result.nodes, "gain"),
    ),
    "weight_change": Figure(
        weight_change,
        headlines.weight_headline,
        "How far personalisation moved the weights of the first layer on each node. The norm grows with the number of "
        "steps and the width of the layer; it does not measure how much a node needed its own model.",
        lambda result: any(node.weight_change_l2 > 0 for node in result.nodes),
    ),
    "baselines": Figure(
        baselines,
        headlines.baseline_headline,
        "Every model against the simple ones, on the same test rows; best on top. The upper part compares the global "
        "model on the federated users' test rows, the lower part the personal models on the personalisation users' "
        "held-out rows.",
        contents.has_baselines,
        {
            "cold": "Every model against the simple ones, on the same rows of new users; best on top. In the upper "
            "part nothing is known of a user, in the lower part the user's other ratings are.",
            "same": SAME_ROWS,
            "same users": SAME_ROWS,
        },
    ),
    "user_gain": Figure(
        user_gain,
        headlines.user_headline,
        "How much lower (right of zero) or higher (left, hatched) each user's RMSE became by personalisation, on "
        "held-out rows.",
        lambda result: bool(result.users.gains),
    ),
    "new_users": Figure(
        new_users,
        headlines.new_users_headline,
        "RMSE of new users' held-out rows where each begins with only so many ratings of their own; those who have "
        "fewer use all they have. The shared models stay as they are. The biases know every rating of the federated "
        "users; the network is the preset of that name, trained on the same nodes, with a private ridge head per user.",
        lambda result: words.any_measured(result.new_users, "model"),
        section="New users",
        table=contents.new_user_table,
    ),
    "ranking": Figure(
        ranking,
        headlines.ranking_headline,
        "Lists of unseen items from the full catalogue, for every user with a held-out item; what was held out is what "
        "should be listed. NDCG@10 rewards hits near the top, HR@10 is the share of users with a hit among ten, "
        "Recall@20 the share of the held-out items among twenty. The dashed line is popularity, the same list for all; "
        "the blend is of Ease, implicit factors and expected ratings.",
        lambda result: bool(result.rankers),
        section="Recommendation lists",
        table=contents.ranking_table,
    ),
}
"""Every figure by its name, in the order of the report."""


def figures_of(result: Result) -> dict[str, Figure]:
    """The figures that apply to a result, by name, in the order of the report."""
    return {name: figure for name, figure in FIGURES.items() if figure.applies(result)}


def all_figures(result: Result) -> dict[str, Canvas]:
    """Every figure of a run, drawn, by name."""
    return {name: figure(result) for name, figure in figures_of(result).items()}


def caption(name: str, result: Result) -> str:
    """The caption of a figure of this result."""
    figure = FIGURES[name]
    usual = figure.captions.get(words.rows_key(result), figure.caption)
    return result.words.captions.get(name, usual)


@styled
def save_figures(result: Result, folder: Path) -> list[Path]:
    """Draw every figure and write it as NAME.png and NAME.svg; returns the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for name, figure in all_figures(result).items() for path in save(figure, name, folder)]


@styled
def save_for_papers(result: Result, folder: Path, kind: str, titled: bool) -> list[Path]:
    """Draw every figure for a paper and write it as NAME.KIND; see save_for_print."""
    folder.mkdir(parents=True, exist_ok=True)
    return [save_for_print(figure, name, folder, kind, titled) for name, figure in all_figures(result).items()]
