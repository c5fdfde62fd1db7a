"""Many runs from one file: which parameters, which seeds, and, before anything runs, which comparisons will be tested.

    python -m nerlib.sweep params/sweeps/pos-shape.yaml     lists the runs

The Snakefile runs them: make sweep SWEEP=params/sweeps/pos-shape.yaml
"""

import itertools
import sys
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nerlib.params import Params
from nerlib.runs import ROOT

PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Sweep(BaseModel):
    """What a file in params/sweeps/ holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=PATTERN, description="first part of the runs' names, and the name of the comparison")
    question: str = Field(min_length=1, description="what the sweep is to answer")
    limits: str = Field("", description="what its answer will not say")
    layers: list[str] = Field([], description="parameter files that all runs start from, a later one wins")
    common: dict[str, Any] = Field({}, description="parameters of all runs")
    cells: dict[str, dict[str, Any]] = Field({}, description="configurations: name → parameters")
    grid: dict[str, list[Any]] = Field({}, description="more configurations: each combination of these values")
    cell: str = Field("", description="name of a combination, with its values in braces: pos-{pos}-shape-{word_shape}")
    seeds: list[int] = Field(min_length=1, description="each configuration runs once with each")
    finals: list[str] = Field([], description="configurations that may score the test part; each time enters the ledger")
    comparisons: list[tuple[str, str]] = Field([], description="the pairs that will be tested, as one family")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        cells = self.configurations()
        if not cells:
            raise ValueError("neither cells nor grid name a configuration")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} names one twice")
        plain = {name.partition("@")[0] for pair in self.comparisons for name in pair}
        if unknown := sorted(plain - set(cells)):
            raise ValueError(f"comparisons: no configuration is called {unknown[0]!r}; there are {', '.join(cells)}")
        if unknown := sorted(set(self.finals) - set(cells)):
            raise ValueError(f"finals: no configuration is called {unknown[0]!r}; there are {', '.join(cells)}")
        for run, values in self.runs().items():
            params = Params.from_yaml(*self.files(), **values)
            cell = run.removeprefix(f"{self.name}-").removesuffix(f"-{params.seed}")
            if params.score_test and cell not in self.finals:
                raise ValueError(f"{cell} would score the test part: set score_test: false, or declare it among finals")
        return self

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """The sweep in a YAML file. Raises FileNotFoundError, ValueError with file and reason."""
        try:
            content = yaml.safe_load(Path(file).read_text("utf-8"))
            return cls(**content)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc'])) or 'sweep'}: {e['msg']}" for e in error.errors()]
            raise ValueError(f"{file}: " + "; ".join(problems)) from None
        except (yaml.YAMLError, TypeError) as error:
            raise ValueError(f"{file}: not a mapping of names to values in YAML: {error}") from None

    def files(self) -> list[Path]:
        """The layers, as paths."""
        return [ROOT / layer for layer in self.layers]

    def configurations(self) -> dict[str, dict[str, Any]]:
        """Name → parameters of each configuration, in the order of the file. Raises ValueError where two have one name."""
        found = dict(self.cells)
        for values in itertools.product(*self.grid.values()) if self.grid else []:
            combination = dict(zip(self.grid, values, strict=True))
            name = self.cell.format(**{key: str(value).lower() if isinstance(value, bool) else value
                                       for key, value in combination.items()})
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
        words = [word for name, value in values.items() for word in ("-p", name, str(value).lower()
                                                                     if isinstance(value, bool) else str(value))]
        final = any(run == f"{self.name}-{cell}-{values['seed']}" for cell in self.finals)
        return [*map(str, self.files()), *words, "--only", "03", *(["--final"] if final else [])]

    def comparison(self) -> list[str]:
        """The command line of the sweep's comparison, after `python -m nerlib`."""
        cells = list(self.configurations())
        pairs = " ".join(f"{self.name}-{a}:{self.name}-{b}" for a, b in self.comparisons)
        given = {"run": self.name, "question": self.question, "limits": self.limits, "runs": " ".join(self.runs()),
                 "baseline": f"{self.name}-{cells[0]}", "comparisons": pairs}
        return [*(word for name, value in given.items() for word in ("-p", name, value)), "--only", "05"]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(*Sweep.load(sys.argv[1]).runs(), sep="\n")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
