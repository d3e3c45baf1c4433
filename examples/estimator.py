"""The same model as an estimator, in five lines: fit a table `ratings.csv` of user, item and rating, predict rows."""

import polars as pl

import hierfed

ratings = pl.read_csv("ratings.csv")
estimator = hierfed.Hierarchical(rank=4, rounds=20).fit(ratings)
print(estimator.predict(ratings.head(3)))
