"""One training in several processes, on one machine or on many.

    accelerate launch -m nerlib.training params/gmb.yaml            on GPUs
    torchrun --nproc-per-node 2 -m nerlib.training params/gmb.yaml  on CPUs, for which Accelerate's launcher wants MPI

Each process takes its share of every batch, and what all have computed is added up: but for rounding, and for what dropout
draws in each, that is what one process alone would have computed. In a process that is alone, nothing of this does anything.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as group

from nerlib.hardware import device
from nerlib.lock import locked
from nerlib.params import Params, once

Item = TypeVar("Item")


def join() -> None:
    """Take part in the group that a launcher began, if one did: with a GPU for each process, or on CPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        try:
            from accelerate import PartialState
        except ModuleNotFoundError:
            raise ValueError('several processes need accelerate: pip install -e ".[parallel]"') from None
        PartialState()


def count() -> int:
    """How many processes there are."""
    return group.get_world_size() if group.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; 0 writes files and talks."""
    return group.get_rank() if group.is_initialized() else 0


def share(items: list[Item]) -> list[Item]:
    """Those that fall to this process."""
    return items[rank()::count()]


def parts(batches: Iterable[list[Item]], each: int) -> list[list[Item]]:
    """This process's share of each batch, in `each` parts; some are empty where it is small."""
    return [share(batch)[part::each] for batch in batches for part in range(each)]


def any_of(true: bool) -> bool:
    """Whether it is true in one process at least."""
    return bool(total(torch.tensor(float(true), device=device() if count() > 1 else "cpu")))


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, in place."""
    if count() > 1:
        group.all_reduce(tensor)
    return tensor


def add_gradients(weights: Iterable[torch.nn.Parameter]) -> None:
    """Give each weight the sum of the gradients that all processes have for it."""
    if count() > 1:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        added = total(torch.cat([gradient.flatten() for gradient in gradients]))  # one message instead of a hundred
        for gradient, part in zip(gradients, added.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def gathered(tensor: torch.Tensor) -> list[torch.Tensor]:
    """What each process calls by this name, in the order of the processes."""
    found = [tensor] * count()
    if count() > 1:
        group.all_gather_object(found, tensor)
    return found


def wait() -> None:
    """Until all have come here."""
    if count() > 1:
        group.barrier()


def main() -> None:
    """Train as notebook 03 does, which then finds the training finished, in as many processes as were launched."""
    from nerlib import encoder, runs, split, training  # here, since they need what stands above

    parser = argparse.ArgumentParser(prog="accelerate launch -m nerlib.training", description=main.__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.yaml", help="parameter files; a later one wins")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter more")
    arguments = parser.parse_args()
    try:
        join()
        params = Params.from_yaml(*arguments.files, **once(arguments.p))
        encoder.check(params)
        folder = runs.folder(params.run)
        with contextlib.nullcontext() if rank() else locked(folder):
            made = training.train(params, *split.load(params, runs.ROOT), folder)
        if not rank():
            print(f"trained in {made.record['processes']} process{'es' * (made.record['processes'] > 1)}: {folder}/model; "
                  "python -m nerlib, with the same parameters, writes the rest")
    except (ValueError, OSError) as error:
        sys.exit(1 if rank() else str(error))
