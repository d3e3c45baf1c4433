"""What the machine can do at best, right now: its matrix rate and its copy rate, on as many threads as asked."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

MATRIX, COPIED, TRIALS = 1024, 1 << 24, 5


@dataclass(frozen=True)
class Rates:
    """flops: of products of matrices, a second. bytes: read and written by copies, a second."""

    flops: float
    bytes: float

    def seconds(self, flops: float, moved: float) -> float:
        """The floor of a task: its arithmetic at the matrix rate, then its bytes at the copy rate."""
        return flops / self.flops + moved / self.bytes


def measure_rates(threads: int, kind: torch.dtype = torch.float64) -> Rates:
    """The best of some trials; kind: of the matrices' numbers."""
    torch.set_num_threads(1)
    matrices = [torch.randn(MATRIX, MATRIX, dtype=kind) for _ in range(threads)]
    vectors = [torch.randn(COPIED, dtype=torch.float64) for _ in range(threads)]
    copies = [torch.empty_like(vector) for vector in vectors]

    def multiply(thread: int) -> None:
        for _ in range(4):
            torch.mm(matrices[thread], matrices[thread])

    def copy(thread: int) -> None:
        for _ in range(4):
            copies[thread].copy_(vectors[thread])

    flops = threads * 4 * 2 * MATRIX**3 / _least_seconds(multiply, threads)
    moved = threads * 4 * 2 * vectors[0].nbytes / _least_seconds(copy, threads)
    return Rates(flops, moved)


def _least_seconds(work: Callable[[int], None], threads: int) -> float:
    spent = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(TRIALS):
            began = time.perf_counter()
            list(pool.map(work, range(threads)))
            spent.append(time.perf_counter() - began)
    return min(spent)
