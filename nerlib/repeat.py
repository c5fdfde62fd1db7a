"""A finished run made again, and where the files of two runs begin to differ: python -m nerlib.runs repeat reports/<run>."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from nerlib import lock
from nerlib.runs import ROOT, Run, command_line, folder, place


def compare(one: Path, other: Path) -> list[str]:
    """What differs between the files of two finished runs, the first file first, and by how much; empty: nothing does."""
    from safetensors.numpy import load_file  # here, since readers of finished runs need no weights

    differences = []
    for name in ("training.parquet", "predictions.parquet", "scores.npy", "model/model.safetensors"):
        before, after = one / name, other / name
        if before.read_bytes() == after.read_bytes():
            continue
        how = ""
        if name == "predictions.parquet":
            tables = [pd.read_parquet(path) for path in (before, after)]
            if len(tables[0]) == len(tables[1]):
                other_tags = (tables[0]["predicted"] != tables[1]["predicted"]).sum()
                how = f"{other_tags:,} of {len(tables[0]):,} words have another tag"
        elif name != "training.parquet":
            values = [load_file(path) if path.suffix == ".safetensors" else {"": np.load(path, allow_pickle=False)}
                      for path in (before, after)]
            if {key: value.shape for key, value in values[0].items()} == {key: value.shape for key, value in values[1].items()}:
                furthest = max(float(np.abs(values[0][key] - values[1][key]).max(initial=0)) for key in values[0])
                how = f"the largest difference of two numbers is {furthest:.3g}"
        differences.append(f"{name} differs" + (f": {how}" if how else ""))
    return differences


def repeat(path: Path, data: str = "") -> list[str]:
    """Make a finished run again, as reports/<run>-repeat, with as many threads, and compare the two. `data` takes the place
    of its corpus, where that has moved. Raises OSError, and RuntimeError where the run fails."""
    run = Run.load(path.name, whole=True)
    name = f"{run.path.name}-repeat"
    values = run.record["parameters"] | {"run": name} | ({"data": data} if data else {})
    threads = str(run.record["hardware"]["threads"])
    with lock.locked(folder(name)):  # what an earlier repeat finished or began would be loaded: nothing would be trained
        for left in ("model", "checkpoints"):
            if (place(name) / left).is_dir():
                shutil.rmtree(place(name) / left)
    if subprocess.run([sys.executable, "-m", "nerlib", *command_line(values), "--only", "03"], cwd=ROOT,
                      env=os.environ | {"OMP_NUM_THREADS": threads}).returncode:
        raise RuntimeError(f"{name} failed; its own error stands above")
    if (processes := run.record["training"].get("processes", 1)) > 1:
        print(f"made otherwise: {processes} processes, now 1")
    return compare(run.path, ROOT / "reports" / name)
