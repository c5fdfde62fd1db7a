"""What may be committed of finished runs: scores, settings and figures, but no sentence; and the page that sums them up.

    python -m nerlib.results publish gmb         a run: reports/results/gmb.json and the figures in gmb/
    python -m nerlib.results publish pos-shape   a comparison (notebook 05) in the same way, then the page
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nerlib.comparison import Comparison
from nerlib.highlight import code
from nerlib.runs import LEDGER, ROOT, STAGES, Run, is_complete, place, read_json, write_atomically, write_json
from nerlib.statistics import MARGIN, RESAMPLES

RESULTS = ROOT / "reports" / "results"


def publish(name: str, results: Path = RESULTS) -> Path:
    """Copy a run or a comparison to `results`. Raises FileNotFoundError, and ValueError where it is not complete."""
    folder = place(name)
    if (folder / "comparison.json").is_file():
        content = read_json(folder / "comparison.json")
        if not is_complete(folder, "05"):
            raise ValueError(f"reports/{name}: notebook 05 is not complete; run it first")
    else:
        content = _run(Run.load(name))
    write_json(results / f"{name}.json", content)
    shutil.rmtree(results / name, ignore_errors=True)
    for picture in sorted((folder / "figures").glob("*.png")):
        write_atomically(results / name / picture.name, picture.read_bytes())
    write_page(results)
    return results / f"{name}.json"


def _run(finished: Run) -> dict[str, Any]:
    stages = [read_json(path) for path in sorted((finished.path / "stages").glob("*.json"))]
    if [stage["notebook"] for stage in stages if stage["status"] == "complete"] != list(STAGES):
        raise ValueError(f"reports/{finished.path.name}: not all of {', '.join(STAGES)} are complete; run them first")
    text = json.dumps(finished.record, ensure_ascii=False)
    parameters = finished.record["parameters"]
    files = [*finished.record["corpus"]["source"].split(" + "), *(parameters[name] for name in parameters if "data" in name)]
    for path in files:
        text = text.replace(path, Path(path).name) if path else text  # where a file lay on this machine concerns nobody
    history = pd.read_csv(finished.path / "history.csv").to_dict("records")
    return {**finished.metrics, "history": history, "run": json.loads(text), "stages": stages}


def methods(compared: Comparison, verdicts: Mapping[str, Mapping[str, Any]], declared: str = "") -> str:
    """The paragraph on methods that a paper would need, from the records of all runs; `declared`: where the comparisons stood
    before the runs."""
    def every(path: str) -> str:
        values = []
        for run in compared.all:
            value: Any = run.record
            for key in path.split("/"):
                value = value[key]
            values.append(f"{value:,}" if isinstance(value, int) else str(value))
        return " or ".join(sorted(set(values)))
    commits = {(run.record["git"]["commit"] or "unknown")[:10]
               + ("" if run.record["git"]["clean"] else " with uncommitted changes") for run in compared.all}
    kept = {"the epoch with the best validation score was kept" if run.record["split"]["validation"]
            else "the last epoch was kept" for run in compared.all}
    by_it = ", by which the epoch was chosen too, so that scores are slightly too good" if compared.part == "validation" else ""
    seeds = sorted({len(row["seeds"]) for row in verdicts.values()})
    drawn = next(iter(verdicts.values()))
    unit = {"block": "blocks of 100 neighbouring sentences", "sentence": "sentences"}[drawn["unit"]]
    corpus = compared.all[0].record["corpus"]
    return (
        f"We fine-tuned {every('encoder/name')} (torch {every('versions/torch')}, transformers "
        f"{every('versions/transformers')}) on {every('split/training')} sentences of a corpus of {corpus['sentences']:,} "
        f"(SHA-256 {corpus['sha256'][:12]}…) in {len(compared.configurations)} configurations; {' or '.join(sorted(kept))}. "
        f"Scores are micro F1 of exact mentions of {', '.join(map(code, compared.types))} (seqeval "
        f"{every('versions/seqeval')}, default mode) on {every(f'split/{compared.part}')} {compared.part} sentences{by_it}. "
        f"Differences are paired by seed ({' or '.join(map(str, seeds))} seeds) and given with 95 % t intervals over seeds and "
        f"with 95 % percentile intervals of {RESAMPLES:,} bootstrap resamples over {drawn['units']} {unit}. Only seeds and "
        f"sentences vary: the split is one. We tested {len(verdicts)} comparisons"
        f"{f', declared in {declared} before the runs' if declared else ''}. A difference "
        "is claimed if the t test and the bootstrap both reject its absence at 5 %, and no difference if both bound it within "
        f"±{MARGIN} F1 (two one-sided tests at 5 %), each after Holm's correction over all comparisons. Code: commit "
        f"{', '.join(sorted(commits))}.")


def write_page(results: Path = RESULTS) -> Path:
    """results/README.md from the comparisons that stand there: question, method, result, intervals, limits."""
    contents = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    sections = [_section(name, content) for name, content in contents.items() if "comparisons" in content]
    single = [f"- [{name}]({name}.json): {content[part]['default']['micro avg']['f1-score']:.4f} on {part}, seed "
              f"{content['run']['parameters']['seed']}" for name, content in contents.items() if "run" in content
              for part in ("test", "validation") if part in content]
    ledger = [json.loads(line) for line in (results / LEDGER.name).read_text("utf-8").splitlines()] \
        if (results / LEDGER.name).is_file() else []
    looked = len({(line["fingerprint"], line["parameters"]) for line in ledger})
    text = "\n".join([
        "# Results", "",
        "Answers to questions about the Kaggle corpus. This page is written by `python -m nerlib.results publish NAME` from",
        "the JSON files beside it; the figures are those of the notebooks. A comparison is called a *difference* or *no",
        "difference* only if the t test over seeds and the bootstrap over blocks of sentences both say so after Holm's",
        "correction, else *undecided*; intervals are at 95 %.", "",
        "Scorings of a test part by declared finals in the [ledger](test-ledger.jsonl): "
        f"{len(ledger)}, of {looked} configurations.", "",
        *(["Single runs, micro F1 (one run says nothing about luck):", "", *single, ""] if single else []),
        *sections])
    write_atomically(results / "README.md", text.rstrip() + "\n")
    return results / "README.md"


def _section(name: str, content: dict[str, Any]) -> str:
    """One comparison in Markdown."""
    spread = {cell: "– | –" if row["sd"] is None else f"{row['sd']:.4f} | {row['low']:.4f} to {row['high']:.4f}"
              for cell, row in content["scores"].items()}
    scores = [f"| {cell} | {row['mean']:.4f} | {spread[cell]} | {row['seeds']:.0f} |"
              for cell, row in content["scores"].items()]
    tests = [f"| {title} | {row['difference']:+.4f} | {' to '.join(f'{end:+.4f}' for end in row['t_interval'])} | "
             f"{' to '.join(f'{end:+.4f}' for end in row['bootstrap_interval'])} | {row['p_holm']:.4f} | {row['verdict']} | "
             f"{row['smallest_detectable']:.4f} |" for title, row in content["comparisons"].items()]
    return "\n".join([
        f"## {name}", "", f"**Question.** {content['question']}", "", f"**Method.** {content['methods']}", "",
        f"**Result.** Micro F1 on {content['part']}:", "",
        "| configuration | mean | sd | t interval of the mean | seeds |", "| --- | --- | --- | --- | --- |", *scores, "",
        "| comparison | difference | t interval | bootstrap interval | p (Holm) | verdict | smallest detectable |",
        "| --- | --- | --- | --- | --- | --- | --- |", *tests, "",
        f"![Differences with intervals]({name}/05_forest.png)", "", f"**Limits.** {content['limits']}", "",
        f"All numbers: [{name}.json]({name}.json).", ""])


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "publish":
        sys.exit(__doc__)
    try:
        print(publish(sys.argv[2]))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
