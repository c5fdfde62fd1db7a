"""What the files of sweeps and searches have in common."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nerlib import yamlfile
from nerlib.params import Params, RunName, problems
from nerlib.runs import ROOT


class Plan(BaseModel):
    """Many runs from one file: what all of them start from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: RunName = Field(description="first part of the runs' names")
    question: str = Field(min_length=1, description="what is to be answered")
    limits: str = Field("", description="what the answer will not say")
    layers: list[str] = Field([], description="parameter files that all runs start from, a later one wins")
    common: dict[str, Any] = Field({}, description="parameters of all runs")

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """The plan in a YAML file. Raises FileNotFoundError, ValueError with file and reason."""
        content = yamlfile.mapping(Path(file))
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ValueError(f"{file}: {'; '.join(problems(cls, error))}") from None

    def files(self) -> list[Path]:
        """The layers, as paths."""
        return [ROOT / layer for layer in self.layers]

    def params(self, values: dict[str, Any], run: str, data: str = "") -> Params:
        """Layers, common parameters and these values together; `data` takes the place of the layers' corpus."""
        return Params.from_yaml(*self.files(), **self.common | values | {"run": run} | ({"data": data} if data else {}))
