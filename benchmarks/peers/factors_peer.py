"""Our rounds of the hierarchical model, on the split that the prototype wrote down."""

import json
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"
data, split, rounds = sys.argv[1:]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from hierfed.data.content import content_of  # noqa: E402
from hierfed.data.federation import Node  # noqa: E402
from hierfed.data.reading.sources import load  # noqa: E402
from hierfed.engines.in_process import run_rounds  # noqa: E402
from hierfed.methods.hierarchical.beliefs import Strengths  # noqa: E402
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors  # noqa: E402

torch.set_num_threads(1)
dataset, given = load(data, join=["none"]), np.load(split)
ratings = dataset.ratings
if not np.array_equal(ratings.value, given["rating"].astype(np.float32)):
    raise SystemExit("the two read different ratings")
node = Node(0, "pool", ratings.take(given["train"]), ratings.take(~given["train"]))
method = HierarchicalFactors(
    content=content_of(dataset.catalogue),
    rank=8,
    threshold=0,
    embedding_rank=32,
    embedding_rounds=6,
    strengths=Strengths(),
    between_nodes=True,
    kernel=None,
    limits=(0.5, 5.0),
    seed=0,
)
seconds = []
trained = run_rounds(method, [node], int(rounds), lambda finished: seconds.append(finished.seconds))
(model,) = method.personalise(trained.shared, [node], trained.private)
error = model.predict(node.test.untimed).numpy() - node.test.value
print(json.dumps({"seconds": seconds[1:], "rmse": float(np.sqrt(np.mean(error**2)))}))
