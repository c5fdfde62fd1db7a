"""Many runs from one file: which parameters, which seeds, and, before anything runs, which comparisons will be tested.

    python -m nerlib.sweep params/sweeps/pos-shape.yaml             lists the runs
    python -m nerlib.sweep params/sweeps/pos-shape.yaml --compare   notebook 05 on them, if all are finished as the file says

The Snakefile runs them: make sweep SWEEP=params/sweeps/pos-shape.yaml
"""

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, model_validator

from nerlib.params import Params
from nerlib.plan import Plan
from nerlib.provenance import committed
from nerlib.runs import Run, command_line

CORPUS = {"data", "data_validation", "data_test"}  # where it lies may differ; fingerprints tell whether it is the same


class Sweep(Plan):
    """What a file in params/sweeps/ holds."""

    cells: dict[str, dict[str, Any]] = Field({}, description="configurations: name → parameters")
    grid: dict[str, list[Any]] = Field({}, description="more configurations: each combination of these values")
    cell: str = Field("", description="name of a combination, with its values in braces: pos-{pos}-shape-{word_shape}")
    seeds: list[int] = Field(min_length=1, description="each configuration runs once with each")
    finals: list[str] = Field([], description="configurations that may score the test part; each time enters the ledger")
    comparisons: list[list[str]] = Field([], description="what will be tested, as one family: [a, b] is a - b, [a, b, c, d] "
                                                         "the interaction (a - b) - (c - d); a@viterbi: a, decoded that way")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        cells = self.configurations()
        if not cells:
            raise ValueError("neither cells nor grid name a configuration")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} names one twice")
        if self.comparisons and len(self.seeds) < 2:
            raise ValueError("comparisons need two seeds at least")
        known = {f"{name}{decoder}" for name in cells for decoder in ("", "@argmax", "@viterbi")}
        for where, names in [("finals", self.finals), *(("comparisons", row) for row in self.comparisons)]:
            if unknown := [name for name in names if name not in (cells if where == "finals" else known)]:
                raise ValueError(f"{where}: no configuration is called {unknown[0]!r}; there are {', '.join(cells)}")
            if len(set(names)) < len(names) or (where == "comparisons" and len(names) not in (2, 4)):
                raise ValueError(f"{where}: {names} names one twice, or is neither a pair nor two pairs")
        if twice := [row for row in self.comparisons if self.comparisons.count(row) > 1]:
            raise ValueError(f"comparisons: {twice[0]} stands twice")
        for run, values in self.runs().items():
            cell = run.removeprefix(f"{self.name}-").removesuffix(f"-{values['seed']}")
            if self.params(values, run).score_test and cell not in self.finals:
                raise ValueError(f"{cell} would score the test part: set score_test: false, or declare it among finals")
        return self

    def configurations(self) -> dict[str, dict[str, Any]]:
        """Name → parameters of each configuration, in the order of the file. Raises ValueError where two have one name."""
        found = dict(self.cells)
        for values in itertools.product(*self.grid.values()) if self.grid else []:
            combination = dict(zip(self.grid, values, strict=True))
            shown = {key: str(value).lower() if isinstance(value, bool) else value for key, value in combination.items()}
            try:
                name = self.cell.format(**shown)
            except (KeyError, IndexError) as error:
                raise ValueError(f"cell: {self.cell!r} names {error}; the grid has {', '.join(self.grid)}") from None
            if not name or name in found:
                raise ValueError(f"cell: {self.cell!r} makes the name {name!r} twice; put all of {list(self.grid)} into it")
            found[name] = combination
        return found

    def runs(self) -> dict[str, dict[str, Any]]:
        """Name → parameters of each run, beside those of the layers."""
        return {f"{self.name}-{cell}-{seed}": self.common | values | {"run": f"{self.name}-{cell}-{seed}", "seed": seed}
                for cell, values in self.configurations().items() for seed in self.seeds}

    def arguments(self, run: str, data: str = "") -> list[str]:
        """The command line of one run, after `python -m nerlib`; `data` takes the place of the layers' corpus. A final
        enters the test ledger."""
        values = self.runs()[run] | ({"data": data} if data else {})
        final = ["--final"] if run in self.final_runs() else []
        return [*map(str, self.files()), *command_line(values), "--only", "03", *final]

    def final_runs(self) -> list[str]:
        """Names of the runs that may score the test part."""
        return [f"{self.name}-{cell}-{seed}" for cell in self.finals for seed in self.seeds]

    def comparison(self, declared: bool) -> list[str]:
        """The command line of the sweep's comparison, after `python -m nerlib`."""
        given = {"run": self.name, "question": self.question, "limits": self.limits, "runs": " ".join(self.runs()),
                 "baseline": f"{self.name}-{next(iter(self.configurations()))}",
                 "comparisons": " ".join(":".join(f"{self.name}-{name}" for name in row) for row in self.comparisons),
                 "declared": f"the file of the sweep {self.name}" if declared else ""}
        return [*(word for name, value in given.items() for word in ("-p", name, value)), "--only", "05"]

    def declared(self, file: Path) -> bool:
        """Whether the sweep's file stood like this in the commits that all runs were made with, so before the runs: the same
        configurations, seeds and comparisons, none more and none fewer. Words and the order of comparisons may differ."""
        def plan(text: str) -> dict[str, Any]:
            content = {name: value for name, value in yaml.safe_load(text).items() if name not in ("question", "limits")}
            return content | {"comparisons": sorted(content.get("comparisons", []))}
        texts = [committed(file, commit) for commit in {Run.load(run).record["git"]["commit"] for run in self.runs()}]
        return bool(self.comparisons) and all(text is not None and plan(text) == plan(file.read_text("utf-8"))
                                              for text in texts)

    def check(self) -> None:
        """Raises FileNotFoundError for a run that is not finished, ValueError for one made with other parameters."""
        for run, values in self.runs().items():
            wanted, made = _settings(self.params(values, run)), _settings(Params(**Run.load(run).record["parameters"]))
            if unlike := [f"{name} = {made[name]!r}, not {wanted[name]!r}" for name in wanted if made[name] != wanted[name]]:
                raise ValueError(f"reports/{run} was made with {', '.join(unlike)}: remove its run.json and start again")


def _settings(params: Params) -> dict[str, Any]:
    encoder = Path(params.encoder)
    return params.model_dump(exclude=CORPUS) | {"encoder": encoder.name if encoder.is_absolute() else params.encoder}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.sweep", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a file as in params/sweeps/")
    parser.add_argument("--compare", action="store_true", help="notebook 05 on its runs; all must be finished as the file says")
    arguments = parser.parse_args()
    try:
        sweep = Sweep.load(arguments.file)
        if not arguments.compare:
            return print(*sweep.runs(), sep="\n")
        sweep.check()
        words = sweep.comparison(sweep.declared(Path(arguments.file).resolve()))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    os.execv(sys.executable, [sys.executable, "-m", "nerlib", *words])


if __name__ == "__main__":
    main()
