"""The networks of the repair benchmark, trained here and exported as PyTorch exports them.

Needs the extra `torch`. One thread and fixed seeds: the same machine trains the same networks.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks import trained_data as data
from benchmarks import trained_networks as networks
from torch import nn

BATCH = 64
RATE = 3e-3
CALIBRATION = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """One network: how it is built, what it learns, and how many steps that takes."""

    make: networks.Make
    task: Callable[[], data.Task]
    steps: int


NETWORKS: dict[str, Recipe] = {
    "mobile-v1 spoilt": Recipe(networks.mobile_v1, data.spoilt, 400),
    "mobile-v2 digits": Recipe(networks.mobile_v2, data.digits, 400),
    "mobile-v3 spoilt": Recipe(networks.mobile_v3, data.spoilt, 250),
    "efficient digits": Recipe(networks.efficient, data.digits, 400),
    "residual digits": Recipe(networks.residual, data.digits, 250),
    "dense digits": Recipe(networks.dense, data.digits, 250),
    "landmarks": Recipe(networks.landmarks, data.corners, 400),
    "masks": Recipe(networks.Masks, data.masks, 150),
    "denoiser": Recipe(networks.denoiser, data.noisy, 120),
    "larger": Recipe(networks.larger, data.small, 400),
    "sound": Recipe(networks.sound, data.sounds, 500),
    "recurrent digits": Recipe(networks.Recurrent, data.digit_rows, 500),
    "encoder digits": Recipe(networks.Encoder, data.digits, 700),
    "autoencoder": Recipe(networks.autoencoder, data.digit_pixels, 800),
    "perceptron": Recipe(networks.perceptron, lambda: data.table("breast_cancer"), 300),
}


def trained(name: str, work: Path) -> float:
    """Train a network and leave `model.onnx`, `calibration.npz` (of the rows it was trained on) and `evaluation.npz`
    (held out, with labels for classifiers) in a folder; returns the held-out accuracy, or the share of variance
    explained.
    """
    recipe = NETWORKS[name]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task, network = recipe.task(), recipe.make()
    rows, targets = torch.from_numpy(task.rows), torch.from_numpy(task.targets)
    loss: nn.Module = nn.CrossEntropyLoss() if task.classes else nn.MSELoss()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=recipe.steps)
    for _ in range(recipe.steps):
        chosen = torch.randint(len(rows), (BATCH,))
        optimiser.zero_grad()
        loss(network(rows[chosen]), targets[chosen]).backward()
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        found = network(torch.from_numpy(task.held_rows)).numpy()
    whole = nn.Sequential(network, nn.Softmax(1)).eval() if task.classes else network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (rows[:1],),
            work / "model.onnx",
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    picked = np.random.default_rng(3).permutation(len(rows))[:CALIBRATION]
    np.savez(work / "calibration.npz", x=task.rows[picked])
    if task.classes:
        np.savez(work / "evaluation.npz", x=task.held_rows, labels=task.held_targets)
        return float(np.mean(found.argmax(1) == task.held_targets))
    np.savez(work / "evaluation.npz", x=task.held_rows)
    return float(1 - np.mean((found - task.held_targets) ** 2) / np.var(task.held_targets))
