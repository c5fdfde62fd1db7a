"""Every knob of an experiment, once: name, type, default, allowed values and meaning.

    python -m nerlib.params   prints them as the table in the README
"""

import ast
import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from nerlib import yamlfile

# The first line of every notebook's parameters cell; papermill's injected cell opens with the bare words.
CELL_MARK, INJECTED_MARK = "# Parameters and their defaults", "# Parameters"
POWERS = {2**31: "2³¹", 2**32: "2³²"}  # limits, as they are written
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of a run, and so of its folder in reports/


def _free(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError("a name begins with a letter or digit, and has only those, dots, - and _")
    if name in ("results", "index.html"):
        raise ValueError(f"reports/{name} holds what is committed, or lists all runs; choose another name")
    return name


RunName = Annotated[str, Field(max_length=100), AfterValidator(_free)]


class Contradiction(ValueError):
    """Values that are allowed one by one, but not together."""


class Params(BaseModel):
    """The parameters of one experiment; unknown names, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)

    run: RunName = Field("quickstart", description="name of the run: its results stand in reports/<run>/; not 'results'")
    data: str = Field("sample", min_length=1,
                      description="'sample' (built in), or a GMB CSV, CoNLL columns or JSON lines, also zipped")
    data_validation: str = Field("", description="official validation part; '': taken from the training part")
    data_test: str = Field("", description="official test part; '': taken from data")
    entity_types: str = Field("geo gpe org per tim", min_length=1,
                              description="types to find, separated by spaces, or 'all'; the others become O")
    max_sentences: int = Field(0, ge=0, lt=2**31, description="random sample of so many sentences, before the split; 0: all")
    split: Literal["random", "grouped", "blocks", "apart", "among"] = Field(
        "random", description="random (the source's), grouped (no sentence in two parts), blocks; others: params/README.md")
    test_size: float = Field(0.2, gt=0, lt=1, description="share of all sentences held out for the last score")
    validation_size: float = Field(0.1, ge=0, lt=1, description="share of the rest for choosing; 0: none, keep the last epoch")
    split_seed: int = Field(42, ge=0, lt=2**32, description="seed of the split and of the sample of sentences")
    encoder: str = Field("minilm", min_length=1,
                         description="'minilm' (comes with the installation), a folder, or a BERT on the Hugging Face hub")
    encoder_revision: str = Field("main", min_length=1, description="branch, tag or commit of an encoder on the hub")
    max_length: int = Field(160, ge=8, le=10_000, description="longest window in word pieces, [CLS] and [SEP] included")
    padding: Literal["batch", "max_length"] = Field(
        "batch", description="pad to the longest of a batch, or (the source) everything to max_length")
    similar_lengths: bool = Field(True, description="batches of similar lengths, which need little padding; else random ones")
    pos: Literal["none", "corpus", "predicted", "constant", "shuffled", "auxiliary"] = Field(
        "corpus", description="POS tags to embed: the corpus's, the model's own, none, or a control (params/README.md)")
    pos_dim: int = Field(0, ge=0, le=10_000, description="size of the POS embedding; 0: the encoder's hidden size")
    pos_init: Literal["random", "pretrained"] = Field(
        "random", description="POS embeddings begin at random, or with what the training part's tag sequences say")
    word_shape: bool = Field(False, description="show the encoder capitals and digits: an embedding of each word's shape")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the classifier")
    encoder_dropout: float = Field(0.0, ge=0, lt=1, description="dropout inside the encoder; 0 is a quarter faster on a CPU")
    freeze_embeddings: bool = Field(False, description="train all but the encoder's embeddings: faster, at an unknown cost")
    epochs: int = Field(3, ge=1, le=10_000, description="passes over the training part")
    batch_size: int = Field(32, ge=1, le=10_000, description="windows in a step")
    gradient_accumulation: int = Field(
        1, ge=1, le=10_000, description="compute a batch in so many parts, one after the other: the same step in less memory")
    learning_rate: float = Field(2e-4, gt=0, le=1, description="highest learning rate of the encoder")
    head_learning_rate: float = Field(1e-3, ge=0, le=1,
                                      description="the same for POS embedding and classifier; 0: as the encoder")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the learning rate rises")
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to this norm; 0: not clipped")
    seed: int = Field(42, ge=0, lt=2**32, description="seed of weights, dropout and order of batches")
    lexicon: bool = Field(False, description="tell the model which tags the training part gives each word, and how often")
    decoder: Literal["argmax", "viterbi"] = Field(
        "argmax", description="each word's best tag by itself, or the best sequence that IOB2 allows")
    checkpoint_minutes: float = Field(5.0, ge=0, description="save an unfinished training so often, and after each "
                                                             "epoch, to go on if killed; 0: never")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the hardware has it")
    score_test: bool = Field(True, description="predict and score the test part; false while you are still choosing")

    @field_validator("*", mode="before")
    @classmethod
    def _is_plain(cls, value: Any, info: Any) -> Any:
        # pydantic turns True into 1, and YAML turns the words no, off and yes into booleans.
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("a truth value is not allowed here (YAML reads yes, no, on, off as one: quote it)")
        if isinstance(value, bytes) or isinstance(value, str) and "\0" in value:
            raise ValueError("a zero byte, or binary data, is not allowed here")
        return value

    @model_validator(mode="after")
    def _values_go_together(self) -> Self:
        if self.pos_init == "pretrained" and self.pos not in ("corpus", "predicted", "shuffled"):
            raise ValueError(f"pos_init = pretrained: pos = {self.pos} has no embeddings of POS tags to begin with")
        if not (self.validation_size or self.data_validation or self.score_test):
            raise ValueError("validation_size = 0 and score_test = false leave nothing to score: change one of them")
        if self.gradient_accumulation > self.batch_size:
            raise ValueError(f"gradient_accumulation = {self.gradient_accumulation} exceeds batch_size = {self.batch_size}")
        if self.split in ("apart", "among") and (self.data_validation or not self.validation_size):
            raise ValueError(f"split = {self.split} draws the validation part itself: leave data_validation out and set "
                             "validation_size above 0")
        if self.encoder == "minilm" and self.encoder_revision != "main":
            raise ValueError(f"encoder_revision = {self.encoder_revision!r}: encoder = minilm comes with the installation and "
                             "has no revisions; those of an encoder on the hub can be chosen")
        return self

    @classmethod
    def create(cls, values: Mapping[str, Any], origin: str) -> Self:
        """Check `values` (name → value); `origin` says in messages where they stand. Raises ValueError."""
        for name in (name for name in values if name not in cls.model_fields):
            close = suggestion(name, cls.model_fields) or f"; known are: {', '.join(cls.model_fields)}"
            raise ValueError(f"{origin}: unknown parameter {shown(name)}{close}")
        try:
            return cls(**values)
        except ValidationError as error:
            kind = ValueError if any(one["loc"] for one in error.errors()) else Contradiction
            raise kind(f"{origin}: {'; '.join(problems(cls, error))}") from None

    @classmethod
    def from_yaml(cls, /, *files: str | Path, **overrides: Any) -> Self:
        """Defaults, then each YAML file (a later one wins), then `overrides`. Raises ValueError, FileNotFoundError."""
        values: dict[str, Any] = {}
        for file in files:
            layer = yamlfile.mapping(Path(file))
            with suppress(Contradiction):  # each value must fit by itself; whether all go together shows at the end
                cls.create(layer, str(file))
            values |= layer
        return cls.create(values | overrides, "parameters")

    @classmethod
    def from_notebook(cls, variables: Mapping[str, Any]) -> Self:
        """The parameters of the running notebook; `variables` is its globals(). Raises ValueError.

        Globals cannot show a typo, so the names come from the source of the latest parameters cell and of the cell
        that papermill injected after it, as IPython keeps them in `In`; the values come from `variables`.
        """
        cells = list(variables.get("In", []))
        own = max((i for i, cell in enumerate(cells) if cell.startswith(CELL_MARK)), default=None)
        if own is None:
            raise ValueError(f"run the parameters cell first (its first line is {CELL_MARK!r})")
        injected = [cell for cell in cells[own + 1:] if cell.split("\n")[0].strip() == INJECTED_MARK]
        names = [name for cell in [cells[own], *injected[-1:]] for name in _assigned(cell)]
        return cls.create({name: variables[name] for name in names}, "parameters")

    def changed(self) -> dict[str, Any]:
        """The parameters that differ from the defaults."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}


class Comparison(Params):
    """The parameters of notebook 05; those of Params are accepted, so that a file may serve all, and not read."""

    run: RunName = Field("comparison",
                         description="name of this comparison: its results stand in reports/<run>/; not 'results'")
    question: str = Field("", description="what the comparison is to answer")
    limits: str = Field("", description="what its answer does not say")
    runs: str = Field("", description="finished runs: names or patterns with *, separated by spaces")
    baseline: str = Field("", description="the configuration that the others are compared with; '': the first by name")
    comparisons: str = Field("", description="what to test: a:b, a@viterbi:a@argmax, a:b:c:d; '': each against the baseline")
    declared: str = Field("", description="where the comparisons stood before the runs")


def _assigned(source: str) -> Iterable[str]:
    """The names that a cell assigns, with or without annotation."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        yield from (target.id for target in targets if isinstance(target, ast.Name))


class _Short(reprlib.Repr):
    """repr, short enough for a message whatever was given."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 100
        self.maxlevel = 3

    def repr_int(self, value: int, level: int) -> str:
        return super().repr_int(value, level) if value.bit_length() < 10_000 else f"a number of {value.bit_length():,} bits"


shown = _Short().repr


def suggestion(name: Any, known: Iterable[str]) -> str:
    """The known name that was probably meant, as the end of a message; '' where there is none."""
    close = difflib.get_close_matches(shown(name).strip("'"), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The -p NAME VALUE of a command line. Raises ValueError for a name that stands twice."""
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"-p {twice[0]} stands twice")
    return dict(pairs)


def problems(model: type[BaseModel], error: ValidationError) -> Iterable[str]:
    """What pydantic found, each with name, value, and what is allowed there."""
    for one in error.errors():
        name, said = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
        if one["type"] in ("missing", "extra_forbidden"):
            said += suggestion(name, model.model_fields) if one["type"] == "extra_forbidden" else ""
            yield f"{name}: {said}"
        elif name and (field := model.model_fields.get(one["loc"][0])):  # else a name that is no text
            meaning = f" ({field.description})" if allowed(field) == "text" else ""
            yield f"{name} = {shown(one['input'])}: {said}; allowed: {allowed(field)}{meaning}"
        else:
            yield f"{name}: {said}" if name else said


def allowed(field: FieldInfo) -> str:
    """What values a parameter may have: choices, or kind and limits; else its description."""
    limits = {sign: getattr(limit, key) for limit in field.metadata
              for key, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")) if hasattr(limit, key)}
    kind = ", ".join(map(str, get_args(field.annotation))) if get_origin(field.annotation) is Literal else {
        bool: "true, false", str: "text", float: "number", int: "whole number"}.get(field.annotation, field.description)
    bounds = ", ".join(f"{sign} {POWERS.get(limit) or f'{limit:,}'}" for sign, limit in limits.items())
    return " ".join(filter(None, [kind, bounds]))


def table() -> str:
    """All parameters as a Markdown table: name, default, allowed values, meaning."""
    rows = ["| parameter | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for name, field in Params.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        meaning = field.description.replace("|", "\\|")
        given = f"`{default}`" if default != "" else ""
        rows.append(f"| `{name}` | {given} | {allowed(field)} | {meaning} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
