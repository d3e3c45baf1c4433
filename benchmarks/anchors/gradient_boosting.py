"""Anchor: gradient boosting (scikit-learn) on statistics of users and items and on public features of items.

Features of a row: user and item bias, how many ratings either has and how much these scatter, what a ridge regression
of the user's own residuals on the item's features expects, what the user gave in the item's genres, and the features
themselves. Statistics of a train row come from the other nine tenths of the rows, so that no row helps to explain its
own rating (leave-one-out statistics would give it away).
The trees learn what the biases leave. Settings chosen on the validation rows of seed 0, warm, from ridge penalties 10
to 100, 8 to 31 leaves and 300 to 800 trees; all were within .002 stars.
"""

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.preprocessing import StandardScaler
from task import Task, run_anchor

from hierfed.data.ratings import Ratings
from hierfed.models.baselines import fit_biases
from hierfed.randomness import generator

FOLDS = 10
RIDGE = 60.0
GENRE_SHRINKAGE = 3.0
SETTINGS = {"max_iter": 800, "learning_rate": 0.02, "max_leaf_nodes": 31, "min_samples_leaf": 100, "max_features": 0.3}


class Statistics:
    """What the ratings of some rows tell of their users and items."""

    def __init__(self, rows: Ratings, users: int, items: int, public: np.ndarray, genres: np.ndarray) -> None:
        self.biases = fit_biases(rows, users, items)
        residual = rows.value - self.biases.predict(rows)
        self.user_count = np.bincount(rows.user, minlength=users)
        self.item_count = np.bincount(rows.item, minlength=items)
        self.user_scatter = np.sqrt((np.bincount(rows.user, residual**2, users) + 2) / (self.user_count + 2))
        self.item_scatter = np.sqrt((np.bincount(rows.item, residual**2, items) + 2) / (self.item_count + 2))
        self.slopes = np.zeros((users, public.shape[1]))
        self.genre_mean = np.zeros((users, genres.shape[1]))
        order = np.argsort(rows.user, kind="stable")
        for user_rows in np.split(order, np.cumsum(self.user_count)[:-1]):
            if not len(user_rows):
                continue
            user, seen = rows.user[user_rows[0]], rows.item[user_rows]
            x, y = public[seen], residual[user_rows]
            self.slopes[user] = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
            self.genre_mean[user] = genres[seen].T @ y / (genres[seen].sum(0) + GENRE_SHRINKAGE)

    def features(self, rows: Ratings, public: np.ndarray, genres: np.ndarray) -> np.ndarray:
        """Features of rows, [rows, n]; the first is what the biases expect. `rows.value` is not looked at."""
        user, item = rows.user, rows.item
        columns = (
            self.biases.predict(rows),
            self.biases.user[user],
            self.biases.item[item],
            np.log1p(self.user_count[user]),
            np.log1p(self.item_count[item]),
            self.user_scatter[user],
            self.item_scatter[item],
            (self.slopes[user] * public[item]).sum(1),
            (self.genre_mean[user] * genres[item]).sum(1) / np.maximum(genres[item].sum(1), 1),
        )
        return np.column_stack([*columns, public[item]])


def predict(task: Task) -> np.ndarray:
    """Biases plus boosted trees on out-of-fold statistics."""
    content, train = task.content(), task.train
    genres = (content.unit_genres > 0).astype(float)
    # One penalty for all slopes: votes, year and the like, as one number each, are given more room than flags.
    flags = np.hstack([content.genres, content.year_bumps])
    scalars, flags = (
        StandardScaler().fit_transform(block) if block.size else block for block in (content.scalars, flags)
    )
    public = np.hstack([scalars, flags / 2])

    def statistics(rows: Ratings) -> Statistics:
        return Statistics(rows, task.dataset.users, task.dataset.items, public, genres)

    fold = generator(task.seed, 0, 0, "folds").integers(FOLDS, size=len(train))
    inputs, targets = [], []
    for held_out in (fold == number for number in range(FOLDS)):
        rows = train.take(held_out)
        inputs.append(statistics(train.take(~held_out)).features(rows, public, genres))
        targets.append(rows.value - inputs[-1][:, 0])
    trees = HistGradientBoostingRegressor(**SETTINGS, random_state=task.seed)
    trees.fit(np.concatenate(inputs), np.concatenate(targets))
    asked = statistics(train).features(task.asked, public, genres)
    biases: np.ndarray = asked[:, 0]
    return biases + trees.predict(asked)


if __name__ == "__main__":
    run_anchor("gradient boosting", f"scikit-learn {sklearn.__version__}", predict)
