"""Are generated ratings like MovieLens'? Histograms side by side, and the same figures of both.

    python benchmarks/generated.py --data FOLDER [--out FOLDER] [--seed 0] [--train]

Makes as many users, films and ratings as the real data have. Prints quantiles of activity and popularity, moments of
ratings and RMSE on a random fifth of each user's rows: of biases, of the generated ratings' Bayes predictor (the noise
floor) and, with --train, of the hierarchical model. Draws `generated.png` and `.svg`.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import hierfed
from hierfed.data.ratings import Dataset
from hierfed.data.reading.sources import load
from hierfed.data.splits import last_of_each_user
from hierfed.evaluation.baselines import simple_baselines
from hierfed.generated.files import read_truth, write_world
from hierfed.generated.films import GENRES
from hierfed.randomness import generator
from hierfed.report.style import INK, MODEL, MUTED, save, styled

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Item means and their tie to popularity are told of films with so many raters.
KNOWN = 20


@dataclass(frozen=True)
class Portrait:
    """A data set, its ratings by user and by film, and the means of both."""

    data: Dataset
    activity: np.ndarray
    popularity: np.ndarray
    user_means: np.ndarray
    item_means: np.ndarray

    @classmethod
    def of(cls, data: Dataset) -> "Portrait":
        """Count and average."""
        ratings = data.ratings
        activity, popularity = np.bincount(ratings.user), np.bincount(ratings.item)
        means = (
            np.bincount(ratings.user, ratings.value) / activity,
            np.bincount(ratings.item, ratings.value) / popularity,
        )
        return cls(data, activity, popularity, *means)

    @property
    def genre_shares(self) -> np.ndarray:
        """Of each of GENRES the share of films."""
        lists = self.data.catalogue.frame["genres"]
        return np.array([lists.list.contains(name).mean() for name in GENRES])

    @property
    def years(self) -> np.ndarray:
        """Those known."""
        return self.data.catalogue.frame["year"].drop_nulls().to_numpy()

    def figures(self, seed: int) -> dict[str, float]:
        """What the table shows."""
        ratings, users = self.data.ratings, len(self.activity)
        known = self.popularity >= KNOWN
        squares = np.bincount(ratings.user, ratings.value.astype(float) ** 2) / self.activity
        within = np.sqrt(np.maximum(squares - self.user_means**2, 0))
        log_popularity = np.log(self.popularity)
        taste = np.bincount(ratings.user, log_popularity[ratings.item]) / self.activity
        told = {f"ratings per user, {share:.0%}": np.quantile(self.activity, share) for share in SHARES}
        told["ratings per user, most"] = self.activity.max()
        told |= {f"raters per film, {share:.0%}": np.quantile(self.popularity, share) for share in SHARES}
        told["raters per film, most"] = self.popularity.max()
        told |= {
            "films with one rater": (self.popularity == 1).mean(),
            "films with fewer than five": (self.popularity < 5).mean(),
            "users' activity with films' popularity, correlation": np.corrcoef(taste, np.log(self.activity))[0, 1],
            "rating, mean": ratings.value.mean(dtype=float),
            "rating, sd": ratings.value.std(dtype=float),
            "half stars": (ratings.value % 1 > 0).mean(),
            "user means, sd": self.user_means.std(),
            "sd within a user, mean": within.mean(),
            "sd within a user, sd": within.std(),
            f"film means, sd ({KNOWN} raters or more)": self.item_means[known].std(),
            "film means with popularity, correlation": np.corrcoef(self.item_means[known], log_popularity[known])[0, 1],
        }
        key = generator(seed, 0, 0, "held-out rows").random(len(ratings))
        held = last_of_each_user(ratings.user, key, 0.2)
        errors = simple_baselines(ratings.take(~held), ratings.take(held), users, len(self.popularity))
        return {name: float(value) for name, value in told.items()} | {
            "RMSE of the mean": errors["global_mean"],
            "RMSE of biases": errors["biases"],
        }


def floor_of(data: Dataset, folder: Path) -> tuple[float, float]:
    """The RMSE of the Bayes predictor on all rows: expected of the truth, and found."""
    users, items = data.user_ids.to_numpy() - 1, data.catalogue.frame["item_id"].to_numpy() - 1
    mean, variance = read_truth(folder).prediction(users[data.ratings.user], items[data.ratings.item])
    return float(np.sqrt(variance.mean())), float(np.sqrt(np.mean((data.ratings.value - mean) ** 2)))


def hierarchical(source: str, seed: int) -> float:
    """RMSE of the hierarchical model on a fifth of each user's rows, without metadata."""
    result = hierfed.run(data=source, join="none", protocol="warm", seed=seed).result
    return result.users.rmse_after


@styled
def draw(real: Portrait, made: Portrait) -> Figure:
    """Six panels, each with both data sets."""
    figure = Figure(figsize=(9.0, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("Generated ratings have MovieLens' tails", x=0.01, ha="left", fontsize=12, fontweight="bold")
    panels = figure.subplots(3, 2).flatten()
    _tail(panels[0], real.activity, made.activity, "ratings per user", "share of users with that many")
    _tail(panels[1], real.popularity, made.popularity, "raters per film", "share of films with that many")
    stars = np.arange(1, 11) / 2
    _bars(
        panels[2],
        [f"{star:g}" for star in stars],
        *(np.array([(each.data.ratings.value == star).mean() for star in stars]) for each in (real, made)),
    )
    panels[2].set_xlabel("rating")
    bins = np.linspace(1, 5, 33)
    _steps(panels[3], real.user_means, made.user_means, bins, "mean rating of a user")
    _bars(panels[4], list(GENRES), real.genre_shares, made.genre_shares)
    panels[4].tick_params("x", labelrotation=90)
    panels[4].set_ylabel("share of films")
    _steps(panels[5], real.years, made.years, np.arange(1900, 2021, 5), "year of a film")
    panels[2].set_ylabel("share of ratings")
    panels[3].set_ylabel("share of users")
    panels[5].set_ylabel("share of films")
    panels[0].legend(frameon=False, labelcolor=INK)
    return figure


def _tail(panel: Axes, real: np.ndarray, made: np.ndarray, what: str, share: str) -> None:
    for values, colour, name in ((real, MUTED, "MovieLens"), (made, MODEL, "generated")):
        ordered = np.sort(values)
        panel.step(ordered, 1 - np.arange(len(ordered)) / len(ordered), where="pre", color=colour, label=name)
    panel.set(xscale="log", yscale="log", xlabel=what, ylabel=share)


def _bars(panel: Axes, names: list[str], real: np.ndarray, made: np.ndarray) -> None:
    place = np.arange(len(names))
    panel.bar(place - 0.2, real, 0.38, color=MUTED)
    panel.bar(place + 0.2, made, 0.38, color=MODEL)
    panel.set_xticks(place, names)
    panel.grid(visible=False, axis="x")


def _steps(panel: Axes, real: np.ndarray, made: np.ndarray, bins: np.ndarray, what: str) -> None:
    for values, colour in ((real, MUTED), (made, MODEL)):
        panel.hist(values, bins, weights=np.full(len(values), 1 / len(values)), histtype="step", color=colour, lw=2)
    panel.set_xlabel(what)


def main() -> None:
    """Make, compare and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/generated"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", action="store_true", help="train the hierarchical model on both: some minutes")
    options = parser.parse_args()
    real = Portrait.of(load(options.data, join=["none"]))
    folder = options.out / "data"
    write_world(
        folder,
        users=len(real.activity),
        items=len(real.popularity),
        ratings=len(real.data.ratings),
        seed=options.seed,
    )
    made = Portrait.of(load(str(folder)))

    table = Table(title=f"{real.data.provenance.name}, and {made.data.provenance.name}")
    for heading in ("", "MovieLens", "generated"):
        table.add_column(heading, justify="right" if heading else "left")
    figures = [each.figures(options.seed) for each in (real, made)]
    for name in figures[0]:
        table.add_row(name, *(f"{each[name]:,.0f}" if each[name] > 10 else f"{each[name]:.3f}" for each in figures))
    if options.train:
        errors = (hierarchical(source, options.seed) for source in (options.data, str(folder)))
        table.add_row("RMSE of the hierarchical model", *(f"{error:.3f}" for error in errors))
    expected, found = floor_of(made.data, folder)
    table.add_row("RMSE of the Bayes predictor, all rows", "", f"{found:.3f}")
    table.add_row("the noise floor that the truth tells", "", f"{expected:.3f}")
    Console(width=110).print(table)
    for path in save(draw(real, made), "generated", options.out):
        print(path)


if __name__ == "__main__":
    main()
