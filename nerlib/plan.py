"""What the files of sweeps and searches have in common."""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nerlib.params import Params
from nerlib.runs import ROOT


class Plan(BaseModel):
    """Many runs from one file: what all of them start from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="first part of the runs' names")
    question: str = Field(min_length=1, description="what is to be answered")
    limits: str = Field("", description="what the answer will not say")
    layers: list[str] = Field([], description="parameter files that all runs start from, a later one wins")
    common: dict[str, Any] = Field({}, description="parameters of all runs")

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """The plan in a YAML file. Raises FileNotFoundError, ValueError with file and reason."""
        try:
            return cls(**yaml.safe_load(Path(file).read_text("utf-8")))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
            raise ValueError(f"{file}: " + "; ".join(problems)) from None
        except (yaml.YAMLError, TypeError) as error:
            raise ValueError(f"{file}: not a mapping of names to values in YAML: {error}") from None

    def files(self) -> list[Path]:
        """The layers, as paths."""
        return [ROOT / layer for layer in self.layers]

    def params(self, values: dict[str, Any], run: str, data: str = "") -> Params:
        """Layers, common parameters and these values together; `data` takes the place of the layers' corpus."""
        return Params.from_yaml(*self.files(), **self.common | values | {"run": run} | ({"data": data} if data else {}))
