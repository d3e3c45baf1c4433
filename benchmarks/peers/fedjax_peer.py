"""Peer: FedJAX, its `algorithms.fed_avg.federated_averaging` on the `for_each_client` jit backend.

Clients use FedJAX's Adam and the server SGD of rate 1, which is plain averaging. FedJAX's shuffled batches run on from
one epoch into the next and are always full, so the client is asked for 190 batches rather than for five epochs (which
would be 188): the same number of steps as the other peers. The initial weights follow PyTorch's distribution. Inside a
step there is one thread, but jax's asynchronous dispatch is left on, as users have it: while one step computes, the
next batch is prepared, so the CPU seconds exceed the wall seconds.
"""

import functools
import os
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = "1"  # XLA sizes its own thread pool by this

import fedjax
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from fedjax.algorithms import fed_avg
from task import BATCH, HIDDEN, INPUTS, LEARNING_RATE, STEPS, Predict, make_task, run_peer

if not hasattr(jax, "tree_map"):  # jax has dropped this name, FedJAX 0.0.17 still calls it
    jax.tree_map = jax.tree_util.tree_map

Batch = dict[str, np.ndarray]


def forward(batch: Batch) -> jax.Array:
    """Predict with the MLP."""
    like_torch = hk.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return hk.nets.MLP([*HIDDEN, 1], w_init=like_torch)(batch["x"])[:, 0]


def squared_error(batch: Batch, predictions: jax.Array) -> jax.Array:
    """Loss of each row."""
    return jnp.square(predictions - batch["y"])


@functools.cache
def build() -> tuple[fedjax.Model, fedjax.FederatedAlgorithm]:
    """Build the model and algorithm once: what jax has compiled for them, a second run finds again."""
    fedjax.set_for_each_client_backend("jit")
    sample = {"x": np.zeros((1, INPUTS), np.float32), "y": np.zeros(1, np.float32)}
    model = fedjax.create_model_from_haiku(hk.transform(forward), sample, squared_error)
    algorithm = fed_avg.federated_averaging(
        fedjax.model_grad(model),
        client_optimizer=fedjax.optimizers.adam(LEARNING_RATE),
        server_optimizer=fedjax.optimizers.sgd(1.0),
        client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH, num_epochs=None, num_steps=STEPS),
    )
    return model, algorithm


def train(rounds: int) -> Predict:
    """Run the rounds, every client in each."""
    model, algorithm = build()
    clients = {
        f"node {node}": {"x": features, "y": targets}
        for node, (features, targets) in enumerate(zip(*make_task(), strict=True))
    }
    data = fedjax.InMemoryFederatedData(clients)
    sampler = fedjax.client_samplers.UniformGetClientSampler(data, num_clients=len(clients), seed=0)
    state = algorithm.init(model.init(jax.random.PRNGKey(0)))
    for _ in range(rounds):
        state, _ = algorithm.apply(state, sampler.sample())
    params = jax.block_until_ready(state.params)
    return lambda features: np.asarray(model.apply_for_eval(params, {"x": features}))


if __name__ == "__main__":
    run_peer("fedjax", version("fedjax"), train)
