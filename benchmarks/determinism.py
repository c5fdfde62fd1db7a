"""What it costs that a training can be repeated exactly: its steps with and without deterministic kernels, in pairs.

    python -m benchmarks.determinism data/ner_dataset.csv.zip [--pairs 48]

Both steps of a pair train on the same batch, one right after the other, the first of them by turns: what else the machine does
meets both alike. Writes reports/results/determinism.json, in two minutes.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import training
from nerlib import model, runs
from nerlib.dataset import LengthBatches
from nerlib.hardware import device, keep_memory, repeatable, use_bf16
from nerlib.params import Params

RESULTS = runs.ROOT / "reports" / "results" / "determinism.json"


def measure(data: str, pairs: int = 48, sentences: int = 480) -> dict[str, Any]:
    """Seconds of each step with and without, and the median and quartiles of the cost: with / without - 1."""
    net, windows = training.our_model(data, sentences)
    params = Params()
    net.train()
    keep_memory()
    optimizer = torch.optim.AdamW(net.parameters(), lr=params.learning_rate, fused=True)
    batches = [batch for seed in range(pairs) for batch in LengthBatches(windows.lengths, training.BATCH, seed)][:pairs]

    def step(batch: dict[str, torch.Tensor], with_it: bool) -> float:
        torch.use_deterministic_algorithms(False)
        if with_it:
            repeatable()
        began = time.perf_counter()
        with torch.autocast(device().type, torch.bfloat16, enabled=use_bf16(params)):
            logits, _ = net(**{name: batch[name] for name in batch if "labels" not in name})
        optimizer.zero_grad()
        model.loss(logits, batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), params.max_grad_norm)
        optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began

    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number, batch in enumerate(windows.loader(batches)):
        batch = {name: tensor.to(device()) for name, tensor in batch.items()}
        step(batch, False)  # makes the kernels of this shape
        for with_it in (True, False) if number % 2 else (False, True):
            seconds[with_it].append(step(batch, with_it))
    return {"unit": "seconds a step", "batch": training.BATCH, "precision": "bf16" if use_bf16(params) else "fp32",
            "with": seconds[True], "without": seconds[False], "cost": cost(seconds[True], seconds[False])}


def cost(with_it: list[float], without: list[float]) -> dict[str, float]:
    """Median and quartiles over the pairs of the share of a step that it takes in addition."""
    low, median, high = np.quantile(np.divide(with_it, without) - 1, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the Kaggle corpus")
    parser.add_argument("--pairs", type=int, default=48)
    arguments = parser.parse_args()
    made = runs.provenance()  # now, since the result itself will change the tree
    record = measure(str(Path(arguments.data).resolve()), arguments.pairs) | {"completed": runs.now(), **made}
    runs.write_json(RESULTS, record)
    print("{median:+.1%} of a step (quartiles {low:+.1%} and {high:+.1%})".format(**record["cost"]))


if __name__ == "__main__":
    main()
