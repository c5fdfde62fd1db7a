"""What may be committed of finished runs: scores, settings and figures, but no sentence; and the page that sums them up.

    python -m nerlib.results publish gmb         a run: reports/results/gmb.json and the figures in gmb/
    python -m nerlib.results publish pos-shape   a comparison (notebook 05) in the same way, then the page
    python -m nerlib.results finals gmb-best gmb-best-* …   one configuration's test scores over seeds and splits, by patterns
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nerlib.comparison import NAMES, Comparison, differing, named
from nerlib.evaluation import source_report
from nerlib.highlight import code
from nerlib.runs import LEDGER, ROOT, STAGES, Run, is_complete, place, read_json, write_atomically, write_json
from nerlib.statistics import MARGIN, RESAMPLES, over_seeds, span

RESULTS = ROOT / "reports" / "results"
SOURCE_F1 = 0.8454  # micro, which its table rounds


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
    _figures(folder, results / name)
    write_page(results)
    return results / f"{name}.json"


def _run(finished: Run) -> dict[str, Any]:
    stages = [read_json(path) for path in sorted((finished.path / "stages").glob("*.json"))]
    if [stage["notebook"] for stage in stages if stage["status"] == "complete"] != list(STAGES):
        raise ValueError(f"reports/{finished.path.name}: not all of {', '.join(STAGES)} are complete; run them first")
    text = json.dumps(finished.record, ensure_ascii=False)
    parameters = finished.record["parameters"]
    files = [*finished.record["corpus"]["source"].split(" + "), *(parameters[name] for name in parameters if "data" in name),
             *([parameters["encoder"]] if Path(parameters["encoder"]).is_absolute() else [])]
    for path in files:
        text = text.replace(path, Path(path).name) if path else text  # where a file lay on this machine concerns nobody
    history = pd.read_csv(finished.path / "history.csv").to_dict("records")
    return {**finished.metrics, "history": history, "run": json.loads(text), "stages": stages}


def finals(name: str, patterns: Sequence[str], results: Path = RESULTS) -> Path:
    """Write `results`/NAME.json: what one configuration scored on the source's test part, over seeds, and on those of other
    splits. Raises FileNotFoundError where no run has such a name, ValueError where runs differ in more, or none is of the
    source's split."""
    place(name)
    if (target := results / f"{name}.json").is_file() and "source_split" not in read_json(target):
        raise ValueError(f"{target} holds something else; choose another name")
    found = named(" ".join(patterns))
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
    here = [row for row in rows if source_report(row["test"])]
    if len({row["seed"] for row in here}) < max(2, len(here)):
        raise ValueError(f"{len(here)} runs scored the source's test part: needed are two at least, each with its own seed")
    there = [row for row in rows if row not in here]
    over = {part: over_seeds([row["f1"] for row in some]) for part, some in (("here", here), ("there", there)) if len(some) > 1}
    first = records[here[0]["run"]]
    mean = {name: {column: sum(row["test"][name][column] for row in here) / len(here) for column in values}
            for name, values in here[0]["test"].items()}
    write_json(target, {
        "parameters": {key: value for key, value in first["changed"].items() if key not in NAMES | {"split_seed"}},
        "report": mean, "strict_f1": sum(row["strict_f1"] for row in here) / len(here),
        "lookup": found[here[0]["run"]].metrics["baseline"]["test"]["default"],
        "mean_over_seeds": over["here"]["mean"], "sd_over_seeds": over["here"]["sd"], "interval_over_seeds": [
            over["here"]["low"], over["here"]["high"]], "source_split": here,
        **({"mean_over_splits": over["there"]["mean"], "sd_over_splits": over["there"]["sd"]} if "there" in over else {}),
        "other_splits": there})
    _figures(found[here[0]["run"]].path, results / name)
    write_page(results)
    return target


def _figures(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for picture in sorted((folder / "figures").glob("*.png")):
        write_atomically(target / picture.name, picture.read_bytes())


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
    commits = {commit(run.record["git"]) for run in compared.all}
    kept = {"the epoch with the best validation score was kept" if run.record["split"]["validation"]
            else "the last epoch was kept" for run in compared.all}
    by_it = ", by which the epoch was chosen too, so that scores are slightly too good" if compared.part == "validation" else ""
    seeds = sorted({len(row["seeds"]) for row in verdicts.values()})
    drawn = next(iter(verdicts.values()))
    unit = {"block": "blocks of 100 neighbouring sentences", "sentence": "sentences"}[drawn["unit"]]
    bootstrap = f"{RESAMPLES:,} bootstrap resamples over {drawn['units']} {unit}"
    over = (f"Intervals are percentiles of {bootstrap}; of one seed alone nothing more can be said, and nothing is claimed."
            if seeds == [1] else f"Intervals at 95 % are t intervals over {' or '.join(map(str, seeds))} seeds, percentiles of "
            f"{bootstrap}, and t intervals with both errors (degrees of freedom by Welch and Satterthwaite).")
    corpus = compared.all[0].record["corpus"]
    return (
        f"We fine-tuned {every('encoder/name')} (torch {every('versions/torch')}, transformers "
        f"{every('versions/transformers')}) on {every('split/training')} sentences of a corpus of {corpus['sentences']:,} "
        f"(SHA-256 {corpus['sha256'][:12]}…) in {len(compared.configurations)} configurations; {' or '.join(sorted(kept))}. "
        f"Scores are micro F1 of exact mentions of {', '.join(map(code, compared.types))} (seqeval "
        f"{every('versions/seqeval')}, default mode) on {every(f'split/{compared.part}')} {compared.part} sentences{by_it}. "
        f"Differences are paired by seed. {over} Only seeds and sentences vary: the split is one. We tested "
        f"{len(verdicts)} comparison{'' if len(verdicts) == 1 else 's'}"
        f"{f', declared in {declared} before the runs' if declared else ''}. A difference is claimed if all three tests reject "
        f"its absence at 5 %, and else no difference if all three bound it within ±{MARGIN} F1 (two one-sided tests at 5 %), "
        f"each after Holm's correction over all comparisons. Code: commit {', '.join(sorted(commits))}.")


def commit(git: Mapping[str, Any]) -> str:
    """What a run's record says of its commit, in short."""
    changed = {True: "", False: " with uncommitted changes", None: ""}[git["clean"]]
    return (git["commit"] or "unknown")[:10] + changed


def latex(table: pd.DataFrame, formats: Mapping[str, Any]) -> str:
    """The table in LaTeX, for the package booktabs; numbers to four places where `formats` has nothing else for a column."""
    shown = table.style.format(formats, precision=4, na_rep="–", escape="latex").format_index(escape="latex")
    return shown.format_index(lambda name: name.replace("_", " "), axis=1).to_latex(
        hrules=True, column_format="l" + "r" * len(table.columns))


def write_page(results: Path = RESULTS) -> Path:
    """results/README.md from the comparisons that stand there: question, method, result, intervals, limits; then tried.md."""
    contents = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    sections = [_finals(name, content) for name, content in contents.items() if "source_split" in content]
    sections += [_section(name, content) for name, content in contents.items() if "comparisons" in content]
    ledger = [json.loads(line) for line in (results / LEDGER.name).read_text("utf-8").splitlines()] \
        if (results / LEDGER.name).is_file() else []
    parts, hashes = ({line[key] for line in ledger} for key in ("fingerprint", "parameters"))
    entered = {line["run"] for line in ledger}
    single = [f"- [{name}]({name}.json): {content[part]['default']['micro avg']['f1-score']:.4f} on {part}, seed "
              f"{content['run']['parameters']['seed']}"
              f"{' (no declared final, and not in the ledger)' if part == 'test' and name not in entered else ''}"
              for name, content in contents.items() if "run" in content for part in ("test", "validation") if part in content]
    tried = results / "tried.md"
    text = "\n".join([
        "# Results", "",
        "Answers to questions about the Kaggle corpus. This page is written by `python -m nerlib.results publish NAME` from",
        "the JSON files beside it, and from tried.md, which is written by hand; the figures are those of the notebooks. A",
        "comparison is called a *difference*, or else *no difference*, only if the t test over seeds, the bootstrap over",
        "blocks of sentences and the t test with both errors say so after Holm's correction, else *undecided*; intervals are",
        "at 95 %.", "",
        f"Declared finals in the [ledger](test-ledger.jsonl): {len(ledger)} scorings of {len(parts)} test parts by "
        f"{len(hashes)} configuration{'' if len(hashes) == 1 else 's'}.", "",
        *(["Single runs, micro F1 (one run says nothing about luck):", "", *single, ""] if single else []),
        *sections, *([tried.read_text("utf-8")] if tried.is_file() else [])])
    write_atomically(results / "README.md", text.rstrip() + "\n")
    return results / "README.md"


def _section(name: str, content: dict[str, Any]) -> str:
    """One comparison in Markdown."""
    spread = {cell: "– | –" if row["sd"] is None else f"{row['sd']:.4f} | {row['low']:.4f} to {row['high']:.4f}"
              for cell, row in content["scores"].items()}
    scores = [f"| {cell} | {row['mean']:.4f} | {spread[cell]} | {row['seeds']:.0f} |"
              for cell, row in content["scores"].items()]
    tests = [f"| {title} | {row['difference']:+.4f} | {span(row['interval'])} | {span(row['t_interval'])} | "
             f"{span(row['bootstrap_interval'])} | {row['p_holm']:.4f} | {row['verdict']} | "
             f"{'–' if row['smallest_detectable'] is None else format(row['smallest_detectable'], '.4f')} |"
             for title, row in content["comparisons"].items()]
    return "\n".join([
        f"## {name}", "", f"**Question.** {content['question']}", "", f"**Method.** {content['methods']}", "",
        f"**Result.** Micro F1 on {content['part']}:", "",
        "| configuration | mean | sd | t interval of the mean | seeds |", "| --- | --- | --- | --- | --- |", *scores, "",
        "| comparison | difference | interval | over seeds (t) | over sentences (bootstrap) | p (Holm) | verdict | smallest "
        "detectable |", "| --- | --- | --- | --- | --- | --- | --- | --- |", *tests, "",
        f"![Differences with intervals]({name}/05_forest.png)", "", f"**Limits.** {content['limits']}", "",
        f"All numbers: [{name}.json]({name}.json).", ""])


def _finals(name: str, content: dict[str, Any]) -> str:
    """One configuration's test scores in Markdown."""
    rows = [f"| {'the source’s' if row in content['source_split'] else row['split_seed']} | {row['seed']} | {row['f1']:.4f} | "
            f"{row['interval'][0]:.4f} to {row['interval'][1]:.4f} | {row['strict_f1']:.4f} | "
            f"{row['training_seconds'] / 60:.1f} | {row['threads']} | {commit(row)} |"
            for row in (*content["source_split"], *content["other_splits"])]
    low, high = content["interval_over_seeds"]
    said = (f"{content['mean_over_seeds']:.4f} over {len(content['source_split'])} seeds on the source's test part (standard "
            f"deviation {content['sd_over_seeds']:.4f}, t interval of the mean {low:.4f} to {high:.4f})")
    if there := content["other_splits"]:
        said += f"; on {len(there)} other split{'s' if len(there) > 1 else ''} " + (
            f"{content['mean_over_splits']:.4f} (standard deviation {content['sd_over_splits']:.4f}; no interval, since they "
            "share sentences)" if len(there) > 1 else f"{there[0]['f1']:.4f}")
    kept = "the last epoch, trained without a validation part" if content["parameters"].get("validation_size") == 0 else (
        "the epoch with the best validation score")
    return "\n".join([
        f"## {name}", "", "**Question.** What does the chosen configuration score?", "",
        f"**Method.** One configuration, {kept}: "
        + ", ".join(f"`{key}: {value}`" for key, value in content["parameters"].items()) + ". Micro F1 of exact mentions "
        f"(seqeval, default mode); the interval of a run holds it in 95 % of {RESAMPLES:,} bootstrap resamples of the test "
        "part's sentences: what other sentences would have done, where the spread over seeds is what other seeds did.", "",
        f"**Result.** Test micro F1 {said}. The source has {SOURCE_F1:.4f} on its test part.", "",
        "**Limits.** Leads for the design had been read off the source's test part before. Test parts of other splits are "
        "drawn from the same sentences: a fifth of each lies in the source's, and nearly half was validated on when the "
        "configuration was chosen, so that they show how much depends on the split. Runs of one thread ran beside others, "
        "and so more slowly.", "",
        "| split seed | seed | micro F1 | interval | strict | training (min) | threads | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |", *rows, "",
        f"All numbers: [{name}.json]({name}.json).", ""])


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("publish", "finals") or (sys.argv[1] == "publish") != (len(sys.argv) == 3):
        sys.exit(__doc__)
    try:
        print(publish(sys.argv[2]) if sys.argv[1] == "publish" else finals(sys.argv[2], sys.argv[3:]))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
