"""The README against what it speaks of: result files, links, targets, sections of the notebooks."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from test_mutations import MUTATIONS

from nerlib import params
from nerlib.evaluation import SOURCE
from nerlib.params import Params

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"))]


def table_rows(section: str) -> list[list[str]]:
    """The cells of the rows of all tables in a text, without their header rows."""
    tables = re.findall(r"(?:^\|.*\|\n)+", section, re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()[2:]]


def test_results_are_those_of_the_committed_run():
    report = json.loads((ROOT / "reports/results/gmb-best.json").read_text("utf-8"))
    ours, lookup = report["report"], report["lookup"]
    rows = {row[0]: row[1:] for row in table_rows(README.split("\n## Results\n")[1].split("\n## ")[0])}
    assert set(rows) == set(ours)
    for name, (precision, recall, f1, lookup_f1, source_f1, support) in rows.items():
        values = ours[name]
        assert [precision, recall, f1] == [f"{values[key]:.3f}" for key in ("precision", "recall", "f1-score")]
        assert lookup_f1 == f"{lookup[name]['f1-score']:.3f}"
        assert [source_f1, support] == [f"{SOURCE[name][2]:.2f}", f"{SOURCE[name][3]:,}"]
        assert values["support"] == SOURCE[name][3]


def test_named_numbers_of_the_results_are_those_of_the_committed_run():
    best, fast = (json.loads((ROOT / f"reports/results/{name}.json").read_text("utf-8")) for name in ("gmb-best", "gmb-fast"))
    section = " ".join(README.split("\n## Results\n")[1].split("\n## ")[0].split())
    words = {2: "two", 3: "three", 4: "four", 5: "five"}
    said = re.search(r"mean of (\w+) seeds: a micro F1 of \*\*([\d.]+)\*\* \(standard deviation ([\d.]+); "
                     r"over other sentences ±([\d.]+); strict IOB2 ([\d.]+)\)", section)
    here = [row["interval"] for row in best["runs_over_seeds"]]
    half = sum(high - low for low, high in here) / 2 / len(here)
    assert said.groups() == (words[len(here)], *(
        f"{best[name]:.4f}" for name in ("mean_over_seeds", "sd_over_seeds")), f"{half:.3f}", f"{best['strict_f1']:.4f}")
    said = re.search(r"of (\w+) other random splits.{,80} it is \*\*([\d.]+)\*\* \(standard deviation ([\d.]+)\)", section)
    assert said.groups() == (words[len(best["runs_over_splits"])], *(
        f"{best[name]:.4f}" for name in ("mean_over_splits", "sd_over_splits")))
    assert f"reaches {fast['test']['default']['micro avg']['f1-score']:.4f} with this encoder" in section


def test_the_answer_on_pos_tags_is_that_of_the_published_comparison():
    found = json.loads((ROOT / "reports/results/pos-shape.json").read_text("utf-8"))
    part = " ".join(README.split("**Do POS tags help?**")[1].split("\n\n")[0].split())
    told = {title.replace("-shape-false", "").replace("-shape-true", "+shape"): (row["difference"], row["verdict"])
            for title, row in found["comparisons"].items()}
    assert {row["training sentences"] for row in found["settings"].values()} == {12000}
    assert "With 12,000 training sentences, on validation" in part and found["part"] == "validation"
    assert "means of five seeds" in part and {row["seeds"] for row in found["scores"].values()} == {5}
    for words, title, verdict in (
            ("POS tags bring {:+.4f} F1", "corpus - none", "difference"),
            ("word shapes (capitals, digits) {:+.4f}", "none+shape - none", "difference"),
            ("POS tags beside word shapes {:+.4f}. The last is undecided", "corpus+shape - none+shape", "undecided"),
            ("they bring less there, by {:.4f}, is not", "(corpus - none) - (corpus+shape - none+shape)", "difference"),
            ("score {:.4f} and", "corpus - constant", "difference"), ("and {:.4f} below", "corpus - shuffled", "difference"),
            ("Viterbi decoding brings {:+.4f}.", "none: viterbi - argmax", "difference")):
        assert told[title][1] == verdict and words.format(told[title][0]) in part, title
    undecided = {title for title, (_, verdict) in told.items() if verdict == "undecided"}
    assert undecided == {"corpus+shape - none+shape", "predicted - none", "predicted+shape - none+shape", "auxiliary - none",
                         "pretrained - corpus", "eight-types - corpus"}
    assert part.endswith("Predicted tags, pretrained POS embeddings and what three rarer types cost are undecided.")


SPEED = (ROOT / "benchmarks/README.md").read_text("utf-8")
VERDICTS = {"costs nothing", "undecided", "costs F1"}


def test_speed_is_that_of_the_committed_benchmarks():
    records = json.loads((ROOT / "reports/results/benchmarks.json").read_text("utf-8"))
    expected = []
    for name in ("training", "loading", "tagging"):
        contenders = records[name]["contenders"]
        ours = next(row["median_rate"] for row in contenders.values() if row["name"] == "ours")
        best = max((row["median_rate"] for key, row in contenders.items() if key.startswith("pipeline_")), default=None)
        for key, row in contenders.items():
            if not key.startswith("pipeline_") or row["median_rate"] == best:
                ratio = "" if row["name"] == "ours" else f"{ours / row['median_rate']:.1f}"
                expected.append([row["name"], f"{row['median_rate']:,.0f}", ratio, f"{row['peak_memory_mib']:,}"])
        if limit := records[name].get("e"):
            expected.append([limit["name"], f"{limit['median_rate']:,.0f}", f"{records[name]['share_of_limit']:.2f}", ""])
    assert [row[1:] for row in table_rows(SPEED) if row[-1] not in VERDICTS] == expected
    assert len(expected) == 11 + sum(name.startswith("tagger_") for name in records["tagging"]["contenders"])


def test_levers_are_those_of_the_committed_comparison():
    compared = json.loads((ROOT / "reports/results/levers.json").read_text("utf-8"))["levers"]
    said = {row[0]: row[1:] for row in table_rows(SPEED) if row[-1] in VERDICTS}
    assert said == {name: [f"{row['mean']:+.4f}", "[{:+.4f}, {:+.4f}]".format(*row["interval"]), str(len(row["seeds"])),
                           row["verdict"]] for name, row in compared.items()}


@pytest.mark.parametrize(("page", "target"), [(path, target) for path in PAGES
                                              for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8"))])
def test_link_leads_somewhere(page, target):
    assert (page.parent / target).exists()


def test_front_door_is_short_and_lists_the_parameters_as_they_are():
    assert len(README.splitlines()) <= 200
    assert README.split("\n## Parameters\n")[1].split("\n## ")[0].split("\n\n", 1)[1].strip() == params.table()
    rows = {row[0].strip("`"): row[1:] for row in table_rows(params.table().replace("\\|", "/") + "\n")}
    assert list(rows) == list(Params.model_fields)
    assert rows["seed"][:2] == ["`42`", "whole number ≥ 0, < 2³²"] and rows["data_test"][0] == ""
    assert rows["decoder"][1] == "argmax, viterbi" and rows["word_shape"][:2] == ["`false`", "true, false"]
    assert rows["learning_rate"][:2] == ["`0.0002`", "number > 0, ≤ 1"]


def test_pictures_of_the_front_door_are_readable_and_small():
    for name in re.findall(r"\]\((docs/[^)]+\.png)\)", README):
        with Image.open(ROOT / name) as picture:
            assert picture.width >= 1200 and (ROOT / name).stat().st_size < 500_000
    assert all(len(alt) > 30 for alt in re.findall(r"!\[([^]]*)\]\(", README))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README)) | {"quickstart", "test"}))
def test_make_target_exists(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M)


def test_slides_lead_to_sections_that_exist():
    rows = [row[1] for row in table_rows((ROOT / "notebooks/README.md").read_text("utf-8")) if re.match(r"0\d: ", row[1])]
    assert len(rows) >= 8
    for number, sections in (row.split(": ", 1) for row in rows):
        notebook = json.loads(next((ROOT / "notebooks").glob(f"{number}_*.ipynb")).read_text("utf-8"))
        markdown = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        headings = re.findall(r"^#+ (.*)$", markdown, re.M)
        for section in re.sub(r" \(.*\)", "", sections).split("; "):
            assert section in headings or section == "all sections", section


def test_as_many_places_are_broken_as_the_table_of_tests_says():
    rows = table_rows((ROOT / "tests/README.md").read_text("utf-8"))
    assert [row[2] for row in rows if "test_mutations.py" in row[1]] == [f"{len(MUTATIONS)} places"]
