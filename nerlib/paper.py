"""What a paper about a comparison needs: the paragraph on methods, from the runs' own records, the answer, tables in LaTeX."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nerlib.comparison import NAMES, Comparison, differing
from nerlib.highlight import code
from nerlib.provenance import commit
from nerlib.split import BLOCK
from nerlib.statistics import MARGIN, RESAMPLES


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
    unit = {"block": f"blocks (the scored ones of each {BLOCK} neighbours in the file)", "sentence": "sentences"}[drawn["unit"]]
    bootstrap = f"{RESAMPLES:,} bootstrap resamples over {drawn['units']} {unit}"
    several = " or ".join(str(count) for count in seeds if count > 1)
    over = (f"Intervals at 95 %, each by itself, are t intervals over {several} seeds, percentiles of {bootstrap}, and t "
            "intervals with both errors (degrees of freedom by Welch and Satterthwaite)." if several else
            f"Intervals are percentiles of {bootstrap}.")
    over += " Of one seed alone nothing more can be said, and nothing is claimed." * (1 in seeds)
    corpus = compared.all[0].record["corpus"]
    unlike = differing([run.record["parameters"] for run in compared.all]) - NAMES
    parts = {run.record["split"]["training_fingerprint"] for run in compared.all}
    varied = ("Only seeds and sentences vary: the split is one." if len(parts) == 1 else
              f"There are {len(parts)} training parts, and one that is scored.")
    return (
        f"We fine-tuned {every('encoder/name')} (torch {every('versions/torch')}, transformers "
        f"{every('versions/transformers')}) on {every('split/training')} sentences of a corpus of {corpus['sentences']:,} "
        f"(SHA-256 {corpus['sha256'][:12]}…) in {len(compared.configurations)} configurations"
        f"{', which differ in ' * bool(unlike)}{', '.join(map(code, sorted(unlike)))}; {' or '.join(sorted(kept))}. "
        f"Scores are micro F1 of exact mentions of {', '.join(map(code, compared.types))} (seqeval "
        f"{every('versions/seqeval')}, default mode) on {every(f'split/{compared.part}')} {compared.part} sentences{by_it}. "
        f"Differences are paired by seed. {over} {varied} We tested "
        f"{len(verdicts)} comparison{'' if len(verdicts) == 1 else 's'}"
        f"{f', declared in {declared} before the runs' if declared else ''}. A difference is claimed if all three tests reject "
        f"its absence at 5 %, and else no difference if all three bound it within ±{MARGIN} F1 (two one-sided tests at 5 %), "
        f"each after Holm's correction over all comparisons. Code: commit {', '.join(sorted(commits))}.")


def answer(verdicts: Mapping[str, Mapping[str, Any]], part: str) -> str:
    """The comparisons by verdict, Markdown."""
    found = {verdict: [f"{name}: {row['difference']:+.4f}" for name, row in verdicts.items() if row["verdict"] == verdict]
             for verdict in ("difference", "no difference", "undecided")}
    return f"Differences of micro F1 on the {part} part, by verdict:\n\n" + "\n".join(
        "\n    - ".join([f"- **{verdict}**", *rows]) for verdict, rows in found.items() if rows)


def latex(table: pd.DataFrame, formats: Mapping[str, Any]) -> str:
    """The table in LaTeX, for the package booktabs; numbers to four places where `formats` has nothing else for a column."""
    shown = table.style.format(formats, precision=4, na_rep="–", escape="latex").format_index(escape="latex")
    return shown.format_index(lambda name: name.replace("_", " "), axis=1).to_latex(
        hrules=True, column_format="l" + "r" * len(table.columns))
