"""What may be committed of finished runs, comparisons and searches: scores, settings and figures, but no sentence.

    python -m nerlib.results publish gmb         a run: reports/results/gmb.json and the figures in gmb/
    python -m nerlib.results publish pos-shape   a comparison (notebook 05) or a search in the same way, then the page
    python -m nerlib.results finals params/sweeps/gmb-best.yaml params/sweeps/gmb-splits.yaml
                                                 one configuration's test scores: the first sweep's declared finals over
                                                 seeds, then those of other sweeps over other splits
"""

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nerlib.comparison import NAMES, differing
from nerlib.results_page import write_page
from nerlib.runs import ROOT, STAGES, Run, is_complete, place, read_json, write_atomically, write_json
from nerlib.statistics import over_seeds
from nerlib.sweep import Sweep

RESULTS = ROOT / "reports" / "results"


def publish(name: str, results: Path = RESULTS) -> Path:
    """Copy a run, a comparison or a search to `results`, and write the page. Raises FileNotFoundError, and ValueError where it
    is not complete."""
    folder = place(name)
    if (folder / "comparison.json").is_file():
        content, kind = read_json(folder / "comparison.json"), "comparisons"
        if not is_complete(folder, "05"):
            raise ValueError(f"reports/{name}: notebook 05 is not complete; run it first")
    elif (folder / "study.db").is_file():
        content, kind = _search(folder), "importances"
    else:
        content, kind = _run(Run.load(name)), "run"
    return _write(_target(name, kind, results), content, folder)


def _target(name: str, kind: str, results: Path) -> Path:
    """NAME.json. Raises ValueError where one is there that lacks the key by which those of its kind are known."""
    target = results / f"{name}.json"
    if target.is_file() and kind not in read_json(target):
        raise ValueError(f"{target} holds something else; choose another name")
    return target


def _write(target: Path, content: dict[str, Any], folder: Path) -> Path:
    """Write what is to be published, the figures that there are in `folder`, and the page."""
    write_json(target, content)
    if pictures := sorted((folder / "figures").glob("*.png")):  # a restored run has none, and those that are there stay
        for old in target.with_suffix("").glob("*.png"):
            old.unlink()
    for picture in pictures:
        write_atomically(target.with_suffix("") / picture.name, picture.read_bytes())
    write_page(target.parent)
    return target


def _run(finished: Run) -> dict[str, Any]:
    stages = [read_json(path) for path in sorted((finished.path / "stages").glob("*.json"))]
    if [stage["notebook"] for stage in stages if stage["status"] == "complete"] != list(STAGES):
        raise ValueError(f"reports/{finished.path.name}: not all of {', '.join(STAGES)} are complete; run them first")
    history = pd.read_csv(finished.path / "history.csv").to_dict("records")
    return {**finished.metrics, "history": history, "run": record(finished), "stages": stages}


def record(finished: Run) -> dict[str, Any]:
    """run.json, but for where files lay on this machine."""
    return _without_places(finished.record, finished.record["corpus"]["source"].split(" + "), finished.record["parameters"])


def _search(folder: Path) -> dict[str, Any]:
    content = read_json(folder / "search.json") if (folder / "search.json").is_file() else {"results": [], "trials": 1}
    if len(content["results"]) < content["trials"]:
        raise ValueError(f"reports/{folder.name}: the search is not finished; start it again, and it goes on")
    given = [*content["layers"], *content["common"].values(), *itertools.chain(*content["among"].values())]
    absolute = [value for value in given if isinstance(value, str) and Path(value).is_absolute()]
    return _without_places(content, absolute, content["parameters"])


def _without_places(content: dict[str, Any], paths: Sequence[str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Where a file lay on this machine concerns nobody: of `paths`, and of those in `parameters`, the names remain."""
    text = json.dumps(content, ensure_ascii=False)
    encoder = [parameters["encoder"]] if Path(parameters.get("encoder", "")).is_absolute() else []
    for path in [*paths, *(parameters[name] for name in parameters if "data" in name), *encoder]:
        text = text.replace(path, Path(path).name) if path else text
    return json.loads(text)


def finals(files: Sequence[str | Path], results: Path = RESULTS) -> Path:
    """Write `results`/NAME.json, NAME being that of the first sweep: what its declared finals, of one configuration, scored on
    one test part over seeds, and those of the other sweeps on test parts of other splits, one run each. Raises
    FileNotFoundError where a file or a run is missing, ValueError where the runs are not such."""
    sweeps = [Sweep.load(file) for file in files]
    target = _target(sweeps[0].name, "runs_over_seeds", results)
    for file, sweep in zip(files, sweeps, strict=True):
        if not sweep.finals:
            raise ValueError(f"{file} declares no finals")
        sweep.check()
    found = {run: Run.load(run) for sweep in sweeps for run in sweep.final_runs()}
    records = {run: row.record for run, row in found.items()}
    if unlike := differing([record["parameters"] for record in records.values()]) - NAMES - {"split_seed"}:
        raise ValueError(f"the runs differ in {', '.join(sorted(unlike))}: finals are of one configuration")
    if untested := [run for run, row in found.items() if "test" not in row.metrics]:
        raise ValueError(f"reports/{untested[0]} did not score the test part")
    rows = [{"run": run, "seed": record["parameters"]["seed"], "split_seed": record["parameters"]["split_seed"],
             "fingerprint": record["split"]["fingerprint"], "commit": record["git"]["commit"], "clean": record["git"]["clean"],
             "training_seconds": record["training"]["seconds"]["training"], "threads": record["training"]["threads"],
             **{name: found[run].metrics["test"][mode]["micro avg"]["f1-score"] for name, mode in (
                 ("f1", "default"), ("strict_f1", "strict"))},
             "interval": [found[run].metrics["intervals"]["test"]["micro avg"][end] for end in ("low", "high")],
             "test": found[run].metrics["test"]["default"]} for run, record in records.items()]
    here = [row for row in rows if row["run"] in sweeps[0].final_runs()]
    if len({row["seed"] for row in here}) < max(2, len(here)) or len({row["fingerprint"] for row in here}) > 1:
        raise ValueError(f"{files[0]}: needed are two finals at least, all on one test part, each with its own seed")
    there = [row for row in rows if row not in here]
    parts = [row["fingerprint"] for row in (here[0], *there)]
    if twice := [row["run"] for row in there if parts.count(row["fingerprint"]) > 1]:
        raise ValueError(f"{twice[0]} scored a test part that another run of these scored, too: of each other split one run "
                         "counts")
    over = {part: over_seeds([row["f1"] for row in some]) for part, some in (("here", here), ("there", there)) if len(some) > 1}
    first = records[here[0]["run"]]
    mean = {name: {column: sum(row["test"][name][column] for row in here) / len(here) for column in values}
            for name, values in here[0]["test"].items()}
    return _write(target, {
        "question": sweeps[0].question, "limits": " ".join(sweep.limits for sweep in sweeps).strip(),
        "parameters": {key: value for key, value in first["changed"].items() if key not in NAMES | {"split_seed"}},
        "report": mean, "strict_f1": sum(row["strict_f1"] for row in here) / len(here),
        "lookup": found[here[0]["run"]].metrics["baseline"]["test"]["default"],
        "mean_over_seeds": over["here"]["mean"], "sd_over_seeds": over["here"]["sd"], "interval_over_seeds": [
            over["here"]["low"], over["here"]["high"]], "runs_over_seeds": here,
        **({"mean_over_splits": over["there"]["mean"], "sd_over_splits": over["there"]["sd"]} if "there" in over else {}),
        "runs_over_splits": there}, found[here[0]["run"]].path)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("publish", "finals") or (sys.argv[1] == "publish") != (len(sys.argv) == 3):
        sys.exit(__doc__)
    try:
        print(publish(sys.argv[2]) if sys.argv[1] == "publish" else finals(sys.argv[2], sys.argv[3:]))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
