"""A network of your own in the same experiment: any torch.nn.Module that ends in a Linear."""

import torch

import hierfed


def make_network(features: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(features, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))


run = hierfed.run("network", module=make_network, rounds=3)
print(f"global RMSE {run.result.final_rmse:.4f}, personalised {run.result.users.rmse_after:.4f}")
