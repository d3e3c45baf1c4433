"""The prototype of the hierarchical model, from the folder of its scripts: times rounds and writes down its split."""

import json
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
oracle, data, split, rounds = sys.argv[1:]
os.environ["MOVIELENS_DIR"] = data
sys.path.insert(0, oracle)

import numpy as np  # noqa: E402
from common import load, splitW  # noqa: E402
from ials import ials  # noqa: E402
from t4 import FedHBe  # noqa: E402

films = load()
user, item, rating = films["u"].astype(np.int32), films["i"].astype(np.int32), films["r"]
train, test = splitW(films, 0)
np.savez(split, rating=rating, train=train)
embedding = ials(user[train], item[train], films["nu"], films["ni"], 32, 0.003, 0.1, seed=0)[1]
ended = []
model = FedHBe(films, E=embedding, seed=0, K=8, iters=int(rounds), heti=False, shr=10.0, emode="prior")
model.fit(user[train], item[train], rating[train], trace=lambda *_: ended.append(time.perf_counter()))
error = np.clip(model.predict(user[test], item[test]), 0.5, 5) - rating[test]
print(json.dumps({"seconds": np.diff(ended).tolist(), "rmse": float(np.sqrt(np.mean(error**2)))}))
