"""Ease's weights in single precision against double: seconds, differences, and the lists of some users.

python benchmarks/scaling/single_ease.py SOURCE
"""

import argparse
import time

import numpy as np
import torch
from scipy.linalg.lapack import dpotri

from hierfed.data.reading.sources import load
from hierfed.methods.ranking.ease import weights_of
from hierfed.models.lists import rated_matrix

PENALTY, LEAST, MOST, USERS, LENGTH = 250.0, 5, 9000, 1000, 10


def in_double(co_raters: torch.Tensor) -> torch.Tensor:
    """B of G + penalty I, float64."""
    co_raters.diagonal().add_(PENALTY)
    factor = torch.linalg.cholesky(co_raters.mT, out=co_raters.mT)
    half, _ = dpotri(factor.numpy(), lower=1, overwrite_c=1)
    inverse = torch.from_numpy(half)
    diagonal = inverse.diagonal().clone()
    return ((inverse + inverse.T) / -diagonal).fill_diagonal_(0.0)


def main() -> None:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    dataset = load(parser.parse_args().source)
    rated = rated_matrix(dataset.ratings, dataset.users, dataset.items)
    raters = np.asarray(rated.sum(0)).ravel()
    most = np.argsort(-raters, kind="stable")[:MOST]
    rated = rated[:, np.sort(most[raters[most] >= LEAST])]
    co_raters, found = torch.from_numpy((rated.T @ rated).toarray()), {}
    for name, make in (("double", in_double), ("single", lambda each: weights_of(each.float(), PENALTY))):
        given, began = co_raters.clone(), time.process_time()
        found[name] = make(given)
        print(f"{name}: {time.process_time() - began:.1f} CPU seconds for {len(co_raters):,} items")
    double, single = found["double"], found["single"]
    print(f"largest weight {double.abs().max():.2g}, largest difference {(double - single).abs().max():.2g}")
    seen = torch.from_numpy(rated[:USERS].toarray())
    lists = [
        (seen.to(each.dtype) @ each).masked_fill(seen > 0, -torch.inf).topk(LENGTH).indices for each in (double, single)
    ]
    print(f"equal places of the first {LENGTH} of {len(seen):,} users: {(lists[0] == lists[1]).double().mean():.4f}")


if __name__ == "__main__":
    main()
