"""The page that sums up what is published, reports/results/README.md: for each comparison, search and configuration's test
scores the question, method, answer, numbers and limits, from the JSON files beside it; then tried.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nerlib.evaluation import source_report
from nerlib.highlight import code
from nerlib.paper import answer
from nerlib.provenance import commit
from nerlib.runs import LEDGER, read_json, write_atomically
from nerlib.statistics import RESAMPLES, span

SOURCE_F1 = 0.8454  # micro, which its table rounds
BEST = 10  # trials of a search that are shown
_COSTS = ("seeds", "training seconds", "word pieces a second")  # columns of a comparison's settings that are no settings


def write_page(results: Path) -> Path:
    """Write README.md into `results`; returns its path."""
    contents = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    sections = [write(name, content) for holds, write in (("runs_over_seeds", _finals), ("comparisons", comparison),
                                                          ("importances", search))
                for name, content in contents.items() if holds in content]
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
        "the JSON files beside it, and from tried.md, which is written by hand; the figures are those of the notebooks and of",
        "the searches' pages. A comparison is called a *difference*, or else *no difference*, only if the t test over seeds,",
        "the bootstrap over blocks of sentences and the t test with both errors say so after Holm's correction, else",
        "*undecided*; intervals are at 95 %, each by itself.", "",
        f"Declared finals in the [ledger](test-ledger.jsonl): {len(ledger)} scorings of {len(parts)} test parts by "
        f"{_many(len(hashes), 'configuration')}.", "",
        *(["The archives of [runs](runs) hold what their comparisons are made from, but for the corpus's words:",
           "`python -m nerlib.archive restore 'NAME-*' -p data PATH` makes the runs' folders again.", ""]
          if list((results / "runs").glob("*.zip")) else []),
        *(["Single runs, micro F1 (one run says nothing about luck):", "", *single, ""] if single else []),
        *sections, *([tried.read_text("utf-8")] if tried.is_file() else [])])
    write_atomically(results / "README.md", text.rstrip() + "\n")
    return results / "README.md"


def comparison(name: str, content: Mapping[str, Any]) -> str:
    """One comparison, as notebook 05 keeps it, in Markdown."""
    rows, kinds = content["scores"], sorted(set().union(*content["types_f1"].values()))
    settings = content["settings"]
    columns = [column for column in next(iter(settings.values())) if column not in _COSTS]
    tagged = any(row["POS accuracy"] is not None for row in rows.values())
    scores = [_row(cell, _number(row["mean"]), _number(row["sd"]),
                   "–" if row["sd"] is None else f"{row['low']:.4f} to {row['high']:.4f}", f"{row['seeds']:.0f}",
                   f"{row['illegal tags']:,.1f}", *([_number(row["POS accuracy"])] if tagged else []),
                   *(_number(content["types_f1"][cell].get(kind)) for kind in kinds)) for cell, row in rows.items()]
    intervals = ("interval", "t_interval", "bootstrap_interval")
    tests = [_row(title, f"{row['difference']:+.4f}", str(len(row["seeds"])), *(span(row[kind]) for kind in intervals),
                  f"{row['p_holm']:.4f}", row["verdict"], _number(row["smallest_detectable"]))
             for title, row in content["comparisons"].items()]
    return "\n".join([
        f"## {name}", "", f"**Question.** {content['question']}", "", f"**Method.** {content['methods']}", "",
        f"**Answer.** {answer(content['comparisons'], content['part'])}", "",
        "**Configurations.** What they differ in; those of one training part have the same letter.", "",
        *_header("configuration", *columns), *(_row(cell, *(_value(row.get(column)) for column in columns))
                                               for cell, row in settings.items()), "",
        f"**Result.** Micro F1 on {content['part']} over the types that all were to find: mean, standard deviation and t "
        "interval over seeds. Then, in the mean, the number of tags that IOB2 does not allow"
        f"{', the accuracy of the model’s own POS tags' * tagged} and F1 by entity type:", "",
        *_header("configuration", "micro F1", "sd", "t interval of the mean", "seeds", "illegal tags",
                 *["POS accuracy"] * tagged, *map(code, kinds)), *scores, "",
        *_header("comparison", "difference", "seeds", "interval", "over seeds (t)", "over sentences (bootstrap)", "p (Holm)",
                 "verdict", "smallest detectable"), *tests, "",
        f"![Differences with intervals]({name}/05_forest.png)", "", f"**Limits.** {content['limits']}", "",
        f"All numbers: [{name}.json]({name}.json).", ""])


def search(name: str, content: Mapping[str, Any]) -> str:
    """One search, as nerlib.search keeps it, in Markdown."""
    trials = {row["trial"]: row for row in content["results"]}
    complete = sorted((row for row in trials.values() if row["state"] == "complete"), key=lambda row: -row["validation_f1"])
    best, start = trials[content["best"]], trials.get(content["started_from"])
    searched = sorted(content["between"] | content["log_between"] | content["among"],
                      key=lambda key: -content["importances"].get(key, 0))
    space = [f"`{key}` from {low:g} to {high:g}{scale}" for kind, scale in (("between", ""), ("log_between", " (logarithmic)"))
             for key, (low, high) in content[kind].items()]
    space += [f"`{key}` among {', '.join(_value(value) for value in values)}" for key, values in content["among"].items()]
    told = "" if start is None else ", the setting that the search started from" if start is best else (
        f"; the setting that the search started from (trial {start['trial']}) "
        + (_number(start["validation_f1"]) if start["state"] == "complete" else "was ended early"))
    ended = len(trials) - len(complete)
    return "\n".join([
        f"## {name}", "", f"**Question.** {content['question']}", "",
        f"**Method.** {_many(len(trials), 'trial')}, all with the same seed: first the setting of "
        f"{_settings(content['common'], content['layers'])}, if it lies in the space, then at random, "
        f"after {content['random']} trials by Optuna's TPE. The space: {'; '.join(space)}. "
        f"Trained on {content['data']['training']:,} sentences of a corpus of "
        f"{content['data']['corpus']['sentences']:,}; what counts is the best epoch's micro F1 on "
        f"{content['data']['validation']:,} validation sentences. "
        + f"{_many(ended, 'trial')} ended early, below the median of complete ones at their share of training. " * bool(ended)
        + f"Code: commit {', '.join(content['commits'])}.", "",
        f"**Result.** The best trial ({best['trial']}) scores {_number(best['validation_f1'])}{told}. The best "
        f"{min(BEST, len(complete))} of those that were not ended early:", "", *_header("trial", "micro F1", *searched),
        *(_row(str(row["trial"]), _number(row["validation_f1"]), *(_value(row[key], 3) for key in searched))
          for row in complete[:BEST]), "",
        *(["Relative importance of single parameters, of a random forest fitted to the complete trials (fANOVA, its sum scaled "
           "to 1; a lead, no test): " + ", ".join(f"{key} {weight:.2f}" for key, weight in content["importances"].items())
           + ".", ""] if content["importances"] else []),
        f"![Trials and their scores]({name}/search_trials.png)", "",
        "**Limits.** The best score, and its gain over where the search started, is the largest of many with one seed, and "
        f"therefore too good: nothing is claimed by it. {content['limits']}".rstrip(), "",
        f"All numbers: [{name}.json]({name}.json).", ""])


def _finals(name: str, content: Mapping[str, Any]) -> str:
    """One configuration's test scores in Markdown."""
    here, there = content["runs_over_seeds"], content["runs_over_splits"]
    source = bool(source_report(here[0]["test"]))
    rows = [_row("the source’s" if source and row in here else str(row["split_seed"]), str(row["seed"]),
                 f"{row['f1']:.4f}", f"{row['interval'][0]:.4f} to {row['interval'][1]:.4f}", f"{row['strict_f1']:.4f}",
                 f"{row['training_seconds'] / 60:.1f}", str(row["threads"]), commit(row))
            for row in (*here, *there)]
    low, high = content["interval_over_seeds"]
    said = (f"{content['mean_over_seeds']:.4f} over {len(here)} seeds on the {'source’s ' * source}test part (standard "
            f"deviation {content['sd_over_seeds']:.4f}, t interval of the mean {low:.4f} to {high:.4f})")
    if there:
        said += f"; on {_many(len(there), 'other split')} " + (
            f"{content['mean_over_splits']:.4f} (standard deviation {content['sd_over_splits']:.4f}; no interval, since they "
            "share sentences)" if len(there) > 1 else f"{there[0]['f1']:.4f}")
    kept = "the last epoch, trained without a validation part" if content["parameters"].get("validation_size") == 0 else (
        "the epoch with the best validation score")
    return "\n".join([
        f"## {name}", "", f"**Question.** {content['question']}", "",
        f"**Method.** One configuration, {kept}: {_settings(content['parameters'])}. Micro F1 of exact mentions "
        f"(seqeval, default mode); the interval of a run holds it in 95 % of {RESAMPLES:,} bootstrap resamples of the test "
        "part's sentences, taken as independent: what other sentences would have done, where the spread over seeds is what "
        "other seeds did.", "",
        f"**Result.** Test micro F1 {said}. "
        + f"The source has {SOURCE_F1:.4f} on its test part." * source, "", f"**Limits.** {content['limits']}", "",
        *_header("split seed", "seed", "micro F1", "interval", "strict", "training (min)", "threads", "commit"), *rows, "",
        f"All numbers: [{name}.json]({name}.json).", ""])


def _header(*names: str) -> list[str]:
    return [_row(*names), _row(*["---"] * len(names))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _value(value: Any, digits: int = 6) -> str:
    """A parameter's value as YAML has it; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return code(value)
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value).lower()


def _settings(values: Mapping[str, Any], layers: list[str] | tuple[str, ...] = ()) -> str:
    return ", ".join([*(f"`{layer}`" for layer in layers), *(f"`{key}`: {_value(value)}" for key, value in values.items())]) \
        or "the defaults"
