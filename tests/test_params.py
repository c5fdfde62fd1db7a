"""Parameters: checked by name, type and range wherever they come from, and the same in the notebooks as in `Params`."""

import ast
from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from pydantic import ValidationError

from nerlib.params import Params

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


def injected(**values):
    notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOKS[-1])), values)
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
