"""What each lever of speed costs in F1: trainings with and without it, seed by seed, scored on validation.

    python -m benchmarks.levers data/ner_dataset.csv.zip [--seeds 5]

12,000 sentences to train on, 3 epochs. Each training runs in one thread, as many at once as there are cores, and enters
reports/results/levers.json when it is finished; a training that stands there is not repeated, so that a comparison of
many hours can be interrupted. Delete the file to begin anew.
"""

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import Any

import torch
from scipy.stats import ttest_1samp
from tqdm import tqdm

from nerlib import runs, training
from nerlib.params import Params
from nerlib.split import load

# The parameters that switch each lever off; with ON all are on.
ON = "all on"
OFF = {
    "frozen embeddings": {"freeze_embeddings": False},
    "no encoder dropout": {"encoder_dropout": 0.1},
    "batches of similar lengths": {"similar_lengths": False},
    "bf16": {"precision": "fp32"},
}
COMMON = {"max_sentences": 16668, "epochs": 3, "precision": "bf16", "freeze_embeddings": True, "score_test": False}
MARGIN = 0.003  # F1; what may be lost at most for "costs nothing"
RESULTS = runs.ROOT / "reports" / "results" / "levers.json"


def validation_f1(data: str, lever: str, seed: int) -> dict[str, Any]:
    """Train in one thread with one lever off (or with ON): micro F1 of the kept epoch, and what it was made by."""
    torch.set_num_threads(1)
    name = f"levers-{lever.replace(' ', '-')}-{seed}"
    params = Params.create(COMMON | {"run": name, "data": data, "seed": seed} | OFF.get(lever, {}), "benchmarks.levers")
    result = training.train(params, *load(params, runs.ROOT), runs.folder(name))
    return {"off": lever, "seed": seed, "f1": float(result.history["validation_f1"].max()),
            "epochs": result.history["validation_f1"].tolist(), "commit": result.record["made"]["git"]}


def compare(trainings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each lever with two seeds or more: differences (on - off), their mean, 95 % t interval, and what it says."""
    f1 = {(row["off"], row["seed"]): row["f1"] for row in trainings}
    result = {}
    for lever in OFF:
        seeds = sorted(seed for off, seed in f1 if off == lever and (ON, seed) in f1)
        if len(seeds) < 2:
            continue
        differences = [f1[ON, seed] - f1[lever, seed] for seed in seeds]
        low, high = map(float, ttest_1samp(differences, 0).confidence_interval(0.95))
        verdict = "costs nothing" if low > -MARGIN else "costs F1" if high < 0 else "undecided"
        result[lever] = {"off": OFF[lever], "seeds": seeds, "differences": differences, "mean": sum(differences) / len(seeds),
                         "interval": [low, high], "verdict": verdict}
    return result


def write(trainings: list[dict[str, Any]]) -> None:
    """The trainings so far and what they say, in RESULTS."""
    runs.write_json(RESULTS, {
        "score": "validation micro F1, seqeval default, of the kept epoch", "difference": "on - off", "margin": MARGIN,
        "parameters": COMMON, "levers": compare(trainings), "trainings": trainings,
        **{name: value for name, value in runs.provenance().items() if name != "git"}})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the Kaggle corpus")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    trainings = runs.read_json(RESULTS)["trainings"] if RESULTS.is_file() else []
    finished = {(row["off"], row["seed"]) for row in trainings}
    tasks = [(lever, seed) for lever in (ON, *OFF) for seed in range(1, arguments.seeds + 1) if (lever, seed) not in finished]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        data = str(Path(arguments.data).resolve())
        jobs = [pool.apply_async(validation_f1, [data, *task]) for task in tasks]
        for job in tqdm(jobs, desc="trainings"):
            trainings.append(job.get())
            write(trainings)
    write(trainings)
    for lever, row in compare(trainings).items():
        low, high = row["interval"]
        print(f"{lever:28} {row['mean']:+.4f} [{low:+.4f}, {high:+.4f}]  {row['verdict']}")


if __name__ == "__main__":
    main()
