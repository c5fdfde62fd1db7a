"""Parameters: checked by name, type and range wherever they come from, and the same in the notebooks as in `Params`."""

import ast
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from papermill.cli import _resolve_type
from papermill.iorw import load_notebook_node, read_yaml_file
from papermill.parameterize import parameterize_notebook
from pydantic import ValidationError

from nerlib import __main__
from nerlib.params import Params
from nerlib.search import Search
from nerlib.split import load
from nerlib.sweep import Sweep

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0[1-3]_*.ipynb"))
DEFAULTS = {name: field.default for name, field in Params.model_fields.items()}


def parameters_cell(notebook):
    tagged = [cell for cell in nbformat.read(notebook, 4).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    return tagged[0].source


def assignments(source):
    """(name, annotation, value, type of the value) of each line of a cell that holds nothing but such assignments."""
    nodes = ast.parse(source).body
    assert all(isinstance(node, ast.AnnAssign) for node in nodes)
    return [(n.target.id, ast.unparse(n.annotation), v := ast.literal_eval(n.value), type(v)) for n in nodes]


def test_three_notebooks_list_all_parameters():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_cell_has_the_names_types_and_defaults_of_params(notebook):
    expected = [(name, type(value).__name__, value, type(value)) for name, value in DEFAULTS.items()]
    assert assignments(parameters_cell(notebook)) == expected


def test_error_analysis_lists_only_the_run():
    cell = parameters_cell(ROOT / "notebooks" / "04_error_analysis.ipynb")
    assert assignments(cell) == [("run", "str", DEFAULTS["run"], str)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_help_shows_every_parameter_with_its_meaning(notebook):
    seen = papermill.inspect_notebook(notebook)
    assert {name: entry["help"] for name, entry in seen.items()} == {
        name: field.description for name, field in Params.model_fields.items()}


@pytest.mark.parametrize("file", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.name)
def test_every_parameter_file_loads_and_names_its_own_run(file):
    assert Params.from_yaml(file).run == file.stem


@pytest.fixture
def yaml_file(tmp_path):
    def write(text, name="mine.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name
    return write


@pytest.mark.parametrize("line, value", [
    ("learning_rate: 1e-5", 1e-5),  # a string, says YAML
    ("learning_rate: 1.0e-5", 1e-5),
    ("epochs: '7'", 7),
    ("head_learning_rate: 0", 0.0),
    ("max_length: 64.0", 64),
    ("score_test: no", False),
    ("data: ' my corpus.csv '", "my corpus.csv"),
    ("run: 'no'", "no"),
])
def test_values_take_the_declared_type(yaml_file, line, value):
    name = line.split(":")[0]
    got = getattr(Params.from_yaml(yaml_file(line)), name)
    assert got == value and type(got) is type(DEFAULTS[name])


@pytest.mark.parametrize("line, value", [
    # truth values, as YAML makes them of plain words
    ("epochs: yes", "True"), ("dropout: on", "True"), ("learning_rate: off", "False"), ("run: no", "False"),
    ("pos: no", "False"), ("data_test: false", "False"), ("split: true", "True"),
    # no numbers
    ("learning_rate: .inf", "inf"), ("learning_rate: .nan", "nan"), ("learning_rate: nan", "'nan'"),
    ("max_grad_norm: .inf", "inf"), ("max_grad_norm: inf", "'inf'"), ("epochs: .inf", "inf"),
    # wrong types
    ("epochs: 2.5", "2.5"), ("epochs: many", "'many'"), ("epochs:", "None"), ("epochs: [1, 2]", "[1, 2]"),
    ("run: 12:30", "750"), ("score_test: perhaps", "'perhaps'"), ("score_test: 2", "2"),
    # outside the range
    ("epochs: 0", "0"), ("batch_size: 0", "0"), ("max_length: 7", "7"), ("test_size: 0", "0"), ("test_size: 1", "1"),
    ("validation_size: -0.1", "-0.1"), ("validation_size: 1", "1"), ("dropout: 1", "1"), ("encoder_dropout: 1", "1"),
    ("learning_rate: 0", "0"), ("learning_rate: 2", "2"), ("head_learning_rate: -1", "-1"), ("weight_decay: 1.5", "1.5"),
    ("warmup_ratio: 100", "100"), ("max_grad_norm: -1", "-1"), ("pos_dim: -1", "-1"), ("max_sentences: -1", "-1"),
    ("seed: -1", "-1"), ("split_seed: 4294967296", "4294967296"), ("split: stratified", "'stratified'"),
    ("padding: longest", "'longest'"), ("pos: gold", "'gold'"), ("precision: fp16", "'fp16'"), ("encoder: ''", "''"),
    ("data: ''", "''"), ("entity_types: ' '", "' '"),
    # a run is the name of a folder
    ("run: ''", "''"), ("run: ../other", "'../other'"), ("run: a/b", "'a/b'"), ("run: .hidden", "'.hidden'"),
])
def test_what_does_not_fit_is_refused_with_file_name_and_value(yaml_file, line, value):
    file = yaml_file(line)
    with pytest.raises(ValueError) as error:
        Params.from_yaml(file)
    assert str(error.value).startswith(f"{file}: {line.split(':')[0]} = {value}: ")


def test_a_plain_yaml_truth_word_is_explained(yaml_file):
    with pytest.raises(ValueError, match="quote it"):
        Params.from_yaml(yaml_file("pos: no"))


@pytest.mark.parametrize("line", [
    "test_size: 0.001", "validation_size: 0", "dropout: 0", "learning_rate: 1", "weight_decay: 0", "warmup_ratio: 0",
    "max_grad_norm: 0", "max_length: 8", "epochs: 1", "seed: 0", "split_seed: 4294967295", "data_test: ''", "run: A.b-c_1",
])
def test_the_edges_of_the_ranges_are_allowed(yaml_file, line):
    Params.from_yaml(yaml_file(line))


def test_every_wrong_value_of_a_file_is_named_at_once(yaml_file):
    with pytest.raises(ValueError, match="(?=.*epochs = 0)(?=.*dropout = 2)"):
        Params.from_yaml(yaml_file("epochs: 0\ndropout: 2"))


@pytest.mark.parametrize("wrong, meant", [
    ("epoch", "epochs"), ("learningrate", "learning_rate"), ("batchsize", "batch_size"), ("entity_type", "entity_types"),
])
def test_a_misspelt_name_is_refused_with_a_suggestion(yaml_file, wrong, meant):
    file = yaml_file(f"{wrong}: 1")
    with pytest.raises(ValueError) as error:
        Params.from_yaml(file)
    assert str(file) in str(error.value) and f"{wrong!r}; did you mean {meant!r}?" in str(error.value)


@pytest.mark.parametrize("name", ["zzzz", "no"])  # `no` is False, even as a name
def test_a_name_like_no_other_is_refused_with_the_known_ones(yaml_file, name):
    with pytest.raises(ValueError, match="unknown parameter.*known are: run, data,.*score_test"):
        Params.from_yaml(yaml_file(f"{name}: 1"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "- epochs\n", "epochs 3\n", "epochs: [\n"])
def test_a_file_without_parameters_is_refused_by_name(yaml_file, text):
    file = yaml_file(text)
    with pytest.raises(ValueError) as error:
        Params.from_yaml(file)
    assert str(error.value).startswith(f"{file}: ")


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"run: caf\xe9\n")
    with pytest.raises(ValueError, match="a.yaml: .*UTF-8"):
        Params.from_yaml(tmp_path / "a.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.yaml"):
        Params.from_yaml(tmp_path / "gone.yaml")


def test_defaults_then_files_in_order_then_overrides(yaml_file):
    first = yaml_file("epochs: 2\nseed: 2\ndropout: 0.5", "first.yaml")
    second = yaml_file("epochs: 3\nseed: 3", "second.yaml")
    got = Params.from_yaml(first, second, epochs=4)
    assert (got.epochs, got.seed, got.dropout, got.batch_size) == (4, 3, 0.5, 32)
    assert Params.from_yaml(second, first).seed == 2


def test_of_two_files_the_one_with_the_mistake_is_named(yaml_file):
    good, bad = yaml_file("epochs: 2", "good.yaml"), yaml_file("seed: -1", "bad.yaml")
    for files in (good, bad), (bad, good):  # also where the later file would hide the mistake
        with pytest.raises(ValueError, match="bad.yaml: seed = -1") as error:
            Params.from_yaml(*files)
        assert "good.yaml" not in str(error.value)


@pytest.mark.parametrize("override", [{"epochs": 0}, {"epoch": 2}])
def test_a_wrong_override_is_not_blamed_on_the_file(yaml_file, override):
    with pytest.raises(ValueError, match="epoch") as error:
        Params.from_yaml(yaml_file("seed: 1"), **override)
    assert "mine.yaml" not in str(error.value)


def test_changed_lists_what_differs_from_the_defaults(yaml_file):
    assert Params().changed() == {}
    assert Params.from_yaml(yaml_file("epochs: 3\npos_dim: 32\nlearning_rate: 2e-4\nscore_test: no")).changed() == {
        "pos_dim": 32, "score_test": False}


def test_parameters_cannot_be_set_or_mistyped_in_code():
    params = Params()
    with pytest.raises(ValidationError):
        params.epochs = 5
    with pytest.raises(ValidationError):
        Params(epoch=5)
    assert params.epochs == DEFAULTS["epochs"]


# In a notebook: IPython's In and globals, with the real parameters cell and the cell that papermill itself injects.

OWN = parameters_cell(NOTEBOOKS[-1])


TRAINING = load_notebook_node(str(NOTEBOOKS[-1]))


def injected(**values):
    notebook = parameterize_notebook(TRAINING, values)
    return next(c.source for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", []))


def session(*cells):
    """The globals of a notebook in which the given cells were run."""
    variables = {"In": [""], "unrelated": 3}
    for cell in cells:
        variables["In"].append(cell)
        exec(cell, variables)
    return variables


@pytest.mark.parametrize("cells, changed", [
    ([OWN], {}),
    ([OWN, injected(epochs=5, run="x")], {"epochs": 5, "run": "x"}),
    ([OWN, injected(learning_rate="1e-5")], {"learning_rate": 1e-5}),
    ([OWN, injected(epochs=5), injected(seed=5)], {"epochs": 5, "seed": 5}),  # re-run in the same kernel
    ([OWN, injected(epochs=5), OWN], {}),
    ([OWN, injected(epochs=5), OWN, injected(seed=7)], {"seed": 7}),
    (["import sys", OWN, "epoch = 0"], {}),  # a loop variable of a later cell is no parameter
    ([OWN.replace("epochs: int = 3", "epochs: int = 4")], {"epochs": 4}),  # edited in JupyterLab
    ([OWN, OWN.replace("epochs: int = 3", "epoch: int = 3"), OWN], {}),  # a typo, mended
    ([OWN, injected(epoch=5), injected(epochs=5)], {"epochs": 5}),  # an injected typo, mended
    ([OWN, injected(epoch=5), OWN], {}),  # an injected typo, gone with the re-run parameters cell
    (["# Parameters and their defaults\nrun: str = 'x'", injected(epochs=5)], {"run": "x", "epochs": 5}),  # 04
])
def test_a_notebook_gives_the_parameters_of_its_latest_cells(cells, changed):
    assert Params.from_notebook(session(*cells)).changed() == changed


def test_values_come_from_the_globals_not_from_the_cells():
    assert Params.from_notebook(session(OWN, "epochs = 9")).epochs == 9


@pytest.mark.parametrize("cells", [
    [OWN, injected(epoch=5)],
    [OWN.replace("epochs: int = 3", "epoch: int = 3")],
    [OWN + "\nepoch = 3"],  # without annotation
])
def test_a_typo_in_a_notebook_is_refused_with_a_suggestion(cells):
    with pytest.raises(ValueError, match="'epoch'; did you mean 'epochs'"):
        Params.from_notebook(session(*cells))


def test_a_wrong_value_in_a_notebook_is_named():
    with pytest.raises(ValueError, match="epochs = True: .*truth value"):
        Params.from_notebook(session(OWN, injected(epochs=True)))


@pytest.mark.parametrize("cells", [[], ["epochs = 5"], [injected(epochs=5)]])
def test_a_notebook_whose_parameters_cell_did_not_run_says_so(cells):
    with pytest.raises(ValueError, match="run the parameters cell first"):
        Params.from_notebook(session(*cells))


def test_a_script_without_in_says_so():
    with pytest.raises(ValueError, match="run the parameters cell first"):
        Params.from_notebook({"epochs": 5})


# Wrong inputs through every door: each is refused by one message that names parameter, value and what is allowed.

BOOL, WHOLE, COUNT = "true, false", "whole number ≥ 0, < 2³²", "whole number ≥ 1, ≤ 10,000"
POS = "none, corpus, predicted, constant, shuffled, auxiliary"
WRONG = [  # parameter, value as it is written in YAML, what is allowed
    ("epochs", "0", COUNT), ("epochs", "-3", COUNT), ("epochs", "2.5", COUNT), ("epochs", "'2.5'", COUNT),
    ("epochs", "many", COUNT), ("epochs", "''", COUNT), ("epochs", "'3 '' x'", COUNT), ("epochs", ".inf", COUNT),
    ("epochs", "99999999999999999999999999", COUNT), ("batch_size", "0", COUNT), ("batch_size", "-32", COUNT),
    ("batch_size", "1e3x", COUNT), ("max_length", "7", "whole number ≥ 8, ≤ 10,000"),
    ("max_length", "1000000", "whole number ≥ 8, ≤ 10,000"), ("pos_dim", "-1", "whole number ≥ 0, ≤ 10,000"),
    ("max_sentences", "-1", "whole number ≥ 0, < 2³¹"), ("seed", "-1", WHOLE), ("split_seed", "4294967296", WHOLE),
    ("seed", "abc", WHOLE), ("learning_rate", "0", "number > 0, ≤ 1"), ("learning_rate", "-0.5", "number > 0, ≤ 1"),
    ("learning_rate", "5e5", "number > 0, ≤ 1"), ("learning_rate", "1e-5s", "number > 0, ≤ 1"),
    ("learning_rate", ".nan", "number > 0, ≤ 1"), ("learning_rate", ".inf", "number > 0, ≤ 1"),
    ("learning_rate", "nan", "number > 0, ≤ 1"), ("learning_rate", "inf", "number > 0, ≤ 1"),
    ("learning_rate", "1e400", "number > 0, ≤ 1"), ("learning_rate", "0,001", "number > 0, ≤ 1"),
    ("head_learning_rate", "-1", "number ≥ 0, ≤ 1"), ("test_size", "1", "number > 0, < 1"),
    ("test_size", "20%", "number > 0, < 1"),
    ("validation_size", "1.0", "number ≥ 0, < 1"), ("dropout", "1", "number ≥ 0, < 1"),
    ("weight_decay", "2", "number ≥ 0, ≤ 1"),
    ("warmup_ratio", "100", "number ≥ 0, < 1"), ("max_grad_norm", "-1", "number ≥ 0"),
    ("checkpoint_minutes", "-5", "number ≥ 0"),
    ("score_test", "perhaps", BOOL), ("score_test", "2", BOOL), ("lexicon", "''", BOOL), ("word_shape", "-1", BOOL),
    ("split", "stratified", "random, grouped, blocks, apart, among"), ("padding", "longest", "batch, max_length"),
    ("pos", "gold", POS), ("pos", "CORPUS", POS), ("pos", "'no'", POS), ("pos_init", "glove", "random, pretrained"),
    ("precision", "fp16", "auto, fp32, bf16"), ("decoder", "crf", "argmax, viterbi"), ("encoder", "''", "text"),
    ("data", "''", "text"), ("data", "'   '", "text"), ("entity_types", "''", "text"),
    ("run", "../other", "text"), ("run", "a/b", "text"), ("run", "/etc", "text"), ("run", "..", "text"),
    ("run", ".hidden", "text"),
    ("run", "results", "text"), ("run", "index.html", "text"), ("run", "'a b'", "text"), ("run", "a\\b", "text"),
    ("run", "x" * 101, "text"), ("run", "naïve", "text")]
OF_YAML = [  # wrong as YAML reads them: on a command line, everything is a word
    ("epochs", "yes", COUNT), ("epochs", "", COUNT), ("epochs", "null", COUNT), ("epochs", "[1, 2]", COUNT),
    ("epochs", "{a: 1}", COUNT), ("pos", "no", POS), ("run", "no", "text"), ("run", "12:30", "text"), ("data", "null", "text"),
    ("data", "7", "text"), ("data_test", "off", "text"), ("entity_types", "[geo, per]", "text"),
    ("seed", "0x" + "f" * 40, WHOLE)]
TOGETHER = [  # allowed one by one
    ({"pos": "none", "pos_init": "pretrained"}, "pos_init = pretrained: pos = none has no embeddings"),
    ({"pos": "auxiliary", "pos_init": "pretrained"}, "pos_init = pretrained: pos = auxiliary has no embeddings"),
    ({"validation_size": "0", "score_test": "false"}, "validation_size = 0 and score_test = false leave nothing to score"),
    ({"split": "apart", "validation_size": "0"}, "split = apart draws the validation part itself"),
    ({"split": "among", "data_validation": "x.conll"}, "split = among draws the validation part itself"),
    ({"encoder_revision": "v2"}, "encoder_revision = 'v2': encoder = minilm comes with the installation")]


def by_file(values, tmp_path):
    (tmp_path / "wrong.yaml").write_text("".join(f"{name}: {value}\n" for name, value in values.items()), "utf-8")
    Params.from_yaml(tmp_path / "wrong.yaml")
    return read_yaml(values)


def by_code(values, tmp_path):
    Params.create(read_yaml(values), "here")


def by_runners_file(values, tmp_path):
    (tmp_path / "wrong.yaml").write_text("".join(f"{name}: {value}\n" for name, value in values.items()), "utf-8")
    runner(tmp_path / "wrong.yaml")


def by_papermills_file(values, tmp_path):
    (tmp_path / "wrong.yaml").write_text("".join(f"{name}: {value}\n" for name, value in values.items()), "utf-8")
    Params.from_notebook(session(OWN, injected(**read_yaml_file(str(tmp_path / "wrong.yaml")))))


def by_runners_p(values, tmp_path):
    runner(*(word for pair in words(values).items() for word in ("-p", *pair)))


def by_papermills_r(values, tmp_path):
    Params.from_notebook(session(OWN, injected(**words(values))))


def by_papermills_p(values, tmp_path):
    Params.from_notebook(session(OWN, injected(**{name: _resolve_type(word) for name, word in words(values).items()})))


def read_yaml(values):
    return {name: yaml.safe_load(value) for name, value in values.items()}


def words(values):
    """What a user types on a command line, where no quotes of YAML are needed."""
    return {name: str(yaml.load(value, yaml.BaseLoader)) for name, value in values.items()}


def runner(*arguments):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["nerlib", *map(str, arguments)])
        patch.setattr(__main__, "_run", lambda *_: pytest.fail("it ran"))
        __main__.main()
    raise ValueError(ended.value.code)


READ_AS_YAML = [by_file, by_code, by_runners_file, by_papermills_file]
DOORS = [*READ_AS_YAML, by_runners_p, by_papermills_r, by_papermills_p]


def refusal(door, values, tmp_path):
    with pytest.raises(ValueError) as error:
        door(values, tmp_path)
    said = str(error.value)
    assert "\n" not in said and len(said) < 500
    return said


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name, value, allowed", WRONG)
def test_a_wrong_value_is_refused_through_every_door_with_name_value_and_what_is_allowed(tmp_path, door, name, value, allowed):
    given = {by_papermills_p: lambda: _resolve_type(words({name: value})[name])}.get(
        door, lambda: read_yaml({name: value})[name] if door in READ_AS_YAML else words({name: value})[name])()
    given = repr(given) if len(repr(given)) < 100 else repr(given)[:40]
    said = refusal(door, {name: value}, tmp_path)
    assert f": {name} = {given}" in said and f"; allowed: {allowed}" in said


@pytest.mark.parametrize("door", READ_AS_YAML)
@pytest.mark.parametrize("name, value, allowed", OF_YAML)
def test_a_value_that_yaml_reads_as_something_else_is_refused(tmp_path, door, name, value, allowed):
    said = refusal(door, {name: value}, tmp_path)
    assert f": {name} = {read_yaml({name: value})[name]!r}: " in said and f"; allowed: {allowed}" in said


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong, meant", [
    ("epoch", "epochs"), ("learningrate", "learning_rate"), ("batchsize", "batch_size"), ("entity_type", "entity_types"),
    ("Epochs", "epochs"), ("lexikon", "lexicon")])
def test_a_misspelt_name_is_refused_through_every_door_with_a_suggestion(tmp_path, door, wrong, meant):
    assert f"unknown parameter {wrong!r}; did you mean {meant!r}?" in refusal(door, {wrong: "1"}, tmp_path)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("values, message", TOGETHER)
def test_settings_that_contradict_each_other_are_refused_through_every_door(tmp_path, door, values, message):
    said = refusal(door, values, tmp_path)
    assert message in said and "{" not in said


def test_a_layer_may_contradict_what_a_later_one_changes(yaml_file):
    first = yaml_file("validation_size: 0\nscore_test: false", "first.yaml")
    second = yaml_file("data_validation: x.conll", "second.yaml")
    assert Params.from_yaml(first, second).data_validation == "x.conll"
    with pytest.raises(ValueError, match="leave nothing to score"):
        Params.from_yaml(first)


def test_a_parameter_given_twice_on_the_command_line_is_refused():
    with pytest.raises(ValueError, match="^-p epochs stands twice$"):
        runner("-p", "epochs", "1", "-p", "seed", "1", "-p", "epochs", "2")


@pytest.mark.parametrize("arguments", [("-p", "score_test", "false"), ("-p", "epochs", "1", "--only", "04")])
def test_a_final_run_that_scores_no_test_part_is_refused(arguments):
    with pytest.raises(ValueError, match="--final: this scores no test part"):
        runner(*arguments, "--final")


# Files that are wrong as files.

BOMB = "a: &a [1, 1]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
FILES = [  # content, line, what the message says
    (b"epochs: 1\nseed: 2\nepochs: 3\n", 3, "epochs stands here and in line 1"),
    (b"run: a\n'run': b\n", 2, "run stands here and in line 1"),
    (b"{seed: 1,\n seed: 1}\n", 2, "seed stands here and in line 1"),
    (b"{seed: 1, seed: 1}\n", 1, "seed stands here and in line 1"),
    (b"off: 1\nno: 1\n", 2, "no stands here and in line 1"), (b"seed: {a: 1,\n  a: 2}\n", 2, "a stands here and in line 1"),
    (b"\tepochs: 3\n", 1, "'\\t'"), (b"seed: 1\nepochs:\n\t- 3\n", 3, "'\\t'"),
    (b"epochs: [\n", 2, "expected the node content"),
    (b"epochs: 1\n---\nepochs: 2\n", 2, "single document"), (b"epochs 3\n", None, "not a mapping of names to values"),
    (b"", None, "not a mapping of names to values"), (b"# nothing\n", None, "not a mapping"),
    (b"- epochs\n- 3\n", None, "not a mapping"),
    (b"3\n", None, "not a mapping"), (b"null\n", None, "not a mapping"), (b"run: caf\xe9\n", None, "UTF-8"),
    (b"\xff\xfe\x00", None, "UTF-8"),
    (b"run: a\x00b\n", None, "special characters are not allowed"), (b"PK\x03\x04\x14\x00", None, "not allowed"),
    (b"seed: 1\ndata: !!python/object/apply:os.system ['touch pwned']\n", 2, "could not determine a constructor"),
    (b"data: !!python/name:os.system\n", 1, "could not determine a constructor"), (b"data: !mine x\n", 1, "!mine"),
    (b"data: &x corpus.csv\ndata_test: *x\n", 2, "an alias"), (b"seed: 1\n<<: {epochs: 2}\n", 2, "a merge key"),
    (BOMB.encode(), 2, "an alias"), (b"&a [*a]\n", 1, "an alias"), (b"{" * 3000, None, "too deep"),
    (b"? [1]\n: 2\n", 1, "unhashable"),
    (b"epochs: 1\n  seed: 2\n", 2, "mapping values are not allowed"), (b"run: 'a\n", 2, "quoted scalar"),
    (b"seed: 1\nepochs: " + b"9" * 5000, 2, "cannot be read"), (b"run: 2025-13-45\n", 1, "month must be in 1..12"),
    (b"a: !!bool maybe\n", 1, "maybe cannot be read"), (b"a: !!timestamp foo\n", 1, "foo cannot be read"),
    (b"a: 1\nb: !!int ''\n", 2, "cannot be read")]


@pytest.mark.parametrize("read", [Params.from_yaml, Sweep.load, Search.load, runner, lambda file: runner(file, "--only", "05")],
                         ids=["parameters", "sweep", "search", "runner", "comparison"])
@pytest.mark.parametrize("content, line, message", FILES)
def test_a_file_that_is_wrong_as_a_file_is_refused_by_name_and_line(tmp_path, monkeypatch, read, content, line, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read(tmp_path / "wrong.yaml")
    said = str(error.value)
    assert said.startswith(f"{tmp_path / 'wrong.yaml'}: " + (f"line {line}: " if line else "")) and message in said
    assert "\n" not in said and len(said) < 400 + len(str(tmp_path)) and os.listdir(tmp_path) == ["wrong.yaml"]


@pytest.mark.parametrize("path, said", [(".", "'{}'$"), ("gone.yaml", "^{}: no such file$")])
def test_a_parameter_file_that_is_none_is_named(path, said, tmp_path):
    with pytest.raises(ValueError, match=said.format(re.escape(str(tmp_path / path)))):
        runner(tmp_path / path)


# What only corpus and encoder can tell.

@pytest.mark.parametrize("values, message", [
    ({"data": "gone.csv"}, "data = gone.csv: there is no file "), ({"data_test": "gone.csv"}, "data_test = gone.csv: there is"),
    ({"data_validation": "gone.csv"}, "data_validation = gone.csv: there is no file "),
    ({"entity_types": "geo org loc"}, "has no entity type loc; it has "),
    ({"entity_types": "geo,org"}, "has no entity type geo,org; it has "),
    ({"data": "plain.conll"}, "has no POS column; set pos: none"),
    ({"data_test": "plain.conll"}, "has no POS column; set pos: none"), ({"max_sentences": 1}, "cannot be split as asked"),
    ({"data": "tagged.conll", "data_test": "copy.conll"}, "copy.conll: holds the same as data = "),
    ({"data": "tagged.conll", "data_validation": "tagged.conll"}, "data_validation = "),
    ({"data_test": "tagged.conll", "data_validation": "copy.conll"}, "what is trained on cannot be held out")])
def test_what_only_the_corpus_can_tell_is_told_when_it_is_read(tmp_path, values, message):
    (tmp_path / "plain.conll").write_text("Bern B-geo\nslept O\n\n" * 30)
    for name in ("tagged", "copy"):
        (tmp_path / f"{name}.conll").write_text("Bern NNP B-geo\nslept VBD O\n\n" * 30)
    given = {"entity_types": "geo"} | values
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        load(Params(**given), tmp_path)


def encoder_folder(path, **config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "bert", "max_position_embeddings": 128} | config))
    (path / "model.safetensors").touch()
    return path


@pytest.mark.parametrize("values, message", [
    ({"encoder": "minillm"}, "encoder 'minillm' (revision 'main') is neither a folder here, nor"),
    ({"encoder": "../../etc/x y"}, "is neither a folder here, nor"),
    ({"encoder": "HERE/empty"}, "config.json cannot be read as a BERT's"),
    ({"encoder": "HERE/broken"}, "config.json cannot be read as a BERT's"), ({"encoder": "HERE/gpt"}, "is a gpt2 model"),
    ({"encoder": "HERE/short"}, "max_length = 160: encoder "), ({"encoder": "HERE/pickled"}, "could run code, are not read"),
    ({"encoder": "HERE/short", "max_length": 64, "encoder_revision": "v2"}, "is a folder, which has no revisions"),
    ({"data": "HERE/gone.csv"}, "gone.csv: there is no file "), ({"data_test": "HERE"}, "data_test = "),
    ({"data": "HERE/bad.conll"}, "bad.conll, line 2: tag 'LOC' is not in BIO form"),
    ({"test_size": 0.9999}, "cannot be split as")])
@pytest.mark.parametrize("only", [(), ("--only", "03")])
def test_what_encoder_and_corpus_tell_is_told_before_any_notebook(tmp_path, monkeypatch, values, message, only):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    encoder_folder(tmp_path / "broken").joinpath("config.json").write_text("{")
    (tmp_path / "bad.conll").write_text("Ann B-per\nBern LOC\n")
    encoder_folder(tmp_path / "gpt", model_type="gpt2")
    encoder_folder(tmp_path / "short")
    encoder_folder(tmp_path / "pickled", max_position_embeddings=512).joinpath("model.safetensors").rename(
        tmp_path / "pickled/pytorch_model.bin")
    name = f"test-{uuid.uuid4().hex[:12]}"
    given = {name: str(value).replace("HERE", str(tmp_path)) for name, value in ({"run": name} | values).items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        runner(*(word for pair in given.items() for word in ("-p", *pair)), *only)
    assert not (ROOT / "reports" / name).exists()


@pytest.mark.slow
@pytest.mark.parametrize("arguments, message", [
    (["-f", "wrong.yaml"], f"parameters: epochs = 0: Input should be greater than or equal to 1; allowed: {COUNT}"),
    (["-p", "epohcs", "2"], "parameters: unknown parameter 'epohcs'; did you mean 'epochs'?"),
    (["-r", "pos", "gold"], "parameters: pos = 'gold': ")])
def test_papermill_itself_refuses_before_anything_is_computed(tmp_path, arguments, message):
    (tmp_path / "wrong.yaml").write_text("epochs: 0\n")
    name = f"test-{uuid.uuid4().hex[:12]}"
    done = subprocess.run([sys.executable, "-m", "papermill", str(ROOT / "notebooks/03_training.ipynb"), "out.ipynb",
                           "-p", "run", name, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr and not (ROOT / "reports" / name).exists()
