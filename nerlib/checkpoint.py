"""An unfinished training on disk, from which it goes on as if it had never stopped: safetensors and JSON, nothing pickled."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nerlib import parallel
from nerlib.dataset import LengthBatches
from nerlib.runs import read_json, write_json

KEPT = 2  # the last one, and the one before it


@dataclass
class Moment:
    """Where a training stands, between two steps: all that its next step depends on."""

    net: torch.nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    order: LengthBatches
    epoch: int = 1
    done: int = 0  # steps of this epoch
    drawn: dict[str, Any] = field(default_factory=dict)  # the random state that this epoch's order of batches was drawn from
    words: int = 0  # labelled ones of this epoch
    seconds: float = 0.0  # of this epoch
    history: list[dict[str, Any]] = field(default_factory=list)
    best_f1: float = -1.0
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self):
        self.loss = torch.zeros((), dtype=torch.float64, device=next(self.net.parameters()).device)  # summed over words

    def next_epoch(self, row: dict[str, Any]) -> None:
        """Close an epoch with its row of the history."""
        self.history.append(row)
        self.epoch, self.done, self.words, self.seconds = self.epoch + 1, 0, 0, 0.0
        self.loss, self.drawn = torch.zeros_like(self.loss), self.order.random.bit_generator.state

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that is a tensor, under names of its own."""
        state = self.optimizer.state_dict()["state"]
        random = {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})
        random = {f"random.{kind}.{rank}": state for kind, own in random.items()
                  for rank, state in enumerate(parallel.gathered(own))}
        return {**_named("net", self.net.state_dict()), **_named("best", self.best_weights), **random,
                "loss": parallel.total(self.loss.clone()),
                **{f"optimizer.{index}.{name}": tensor for index, values in state.items() for name, tensor in values.items()}}

    def numbers(self) -> dict[str, Any]:
        """Everything else."""
        return {name: getattr(self, name) for name in SIMPLE} | {
            "groups": self.optimizer.state_dict()["param_groups"], "schedule": self.schedule.state_dict()}

    def set(self, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]) -> None:
        """Become the moment that these were taken from."""
        for name in SIMPLE:
            setattr(self, name, numbers[name])
        self.net.load_state_dict(_part(tensors, "net"))
        self.best_weights = _part(tensors, "best")
        self.loss = tensors["loss"].to(self.loss.device) * (parallel.rank() == 0)  # that of all is added up again
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": numbers["groups"]})
        self.schedule.load_state_dict(numbers["schedule"])
        self.order.random.bit_generator.state = self.drawn
        own = parallel.rank()  # a process that there was none of before goes on with the numbers that it began with
        if f"random.cpu.{own}" in tensors:
            torch.set_rng_state(tensors[f"random.cpu.{own}"])
        if f"random.cuda.{own}" in tensors:
            torch.cuda.set_rng_state(tensors[f"random.cuda.{own}"])


SIMPLE = ("epoch", "done", "drawn", "words", "seconds", "history", "best_f1", "best_epoch")


class Checkpoints:
    """The checkpoints of one training in a folder, written every so many seconds and after each epoch."""

    def __init__(self, folder: Path, key: str, seconds: float):
        """`key`: of the training, whose checkpoints alone are read; `seconds` 0: nothing is written."""
        self.folder, self.key, self.seconds = folder, key, seconds
        self.last, self.resumed_at, self.spent = time.monotonic(), [], 0.0

    def due(self) -> bool:
        """Whether the last one is old enough."""
        return 0 < self.seconds <= time.monotonic() - self.last

    def save(self, moment: Moment) -> float:
        """Write a checkpoint, which appears whole or not at all; older ones but the last go. Returns the seconds it took. Of
        several processes all must call this."""
        if not self.seconds:
            return 0.0
        began, tensors, self.last = time.perf_counter(), moment.tensors(), time.monotonic()
        if parallel.rank():
            return 0.0
        number = 1 + max((int(path.name) for path in self._all()), default=0)
        unfinished = self.folder / f".{number}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished / "tensors.safetensors")
        write_json(unfinished / "state.json", moment.numbers() | {"key": self.key, "resumed_at": self.resumed_at})
        unfinished.rename(self.folder / str(number))
        for old in self._all()[:-KEPT]:
            shutil.rmtree(old)
        took = time.perf_counter() - began
        self.spent += took
        return took

    def restore(self, moment: Moment) -> bool:
        """Set `moment` to that of the newest readable checkpoint; False where there is none. A damaged one is passed over for
        the one before it; those of another training are removed."""
        for path in reversed(self._all()):
            try:
                numbers, tensors = read_json(path / "state.json"), load_file(path / "tensors.safetensors")
            except (OSError, ValueError, SafetensorError):
                continue
            if numbers["key"] == self.key:
                moment.set(tensors, numbers)
                where = f"epoch {moment.epoch}, step {moment.done}"
                self.resumed_at = [*numbers["resumed_at"], where]
                if not parallel.rank():
                    print(f"going on after {where}", flush=True)
                return True
        self.remove()
        return False

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted((path for path in self.folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def _named(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
