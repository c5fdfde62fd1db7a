"""The README against what it speaks of: result files, links, targets, sections of the notebooks."""

import json
import re
from pathlib import Path

import pytest

from nerlib.evaluation import SOURCE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def table_rows(heading: str) -> list[list[str]]:
    """The cells of the rows of all tables under one of the README's headings, without their header rows."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\|\n)+", section, re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()[2:]]


def test_results_are_those_of_the_committed_run():
    report = json.loads((ROOT / "reports/results/gmb.json").read_text("utf-8"))
    ours, lookup = report["test"]["default"], report["baseline"]["test"]["default"]
    rows = {row[0]: row[1:] for row in table_rows("Results")}
    assert set(rows) == set(ours)
    for name, (precision, recall, f1, lookup_f1, source_f1, support) in rows.items():
        values = ours[name]
        assert [precision, recall, f1] == [f"{values[key]:.3f}" for key in ("precision", "recall", "f1-score")]
        assert lookup_f1 == f"{lookup[name]['f1-score']:.3f}"
        assert [source_f1, support] == [f"{SOURCE[name][2]:.2f}", f"{SOURCE[name][3]:,}"]
        assert values["support"] == SOURCE[name][3]


def test_named_numbers_of_the_results_are_those_of_the_committed_run():
    report = json.loads((ROOT / "reports/results/gmb.json").read_text("utf-8"))
    section = README.split("\n## Results\n")[1].split("\n## ")[0]
    said = re.search(r"micro F1 of \*\*([\d.]+)\*\* \(strict IOB2 ([\d.]+)\)", section)
    assert said.groups() == tuple(f"{report['test'][mode]['micro avg']['f1-score']:.4f}" for mode in ("default", "strict"))


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_link_leads_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README)) | {"quickstart", "test"}))
def test_make_target_exists(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M)


def test_slides_lead_to_sections_that_exist():
    rows = [row[1] for row in table_rows("The notebooks") if re.match(r"0\d: ", row[1])]
    assert len(rows) >= 8
    for number, sections in (row.split(": ", 1) for row in rows):
        notebook = json.loads(next((ROOT / "notebooks").glob(f"{number}_*.ipynb")).read_text("utf-8"))
        markdown = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        headings = re.findall(r"^#+ (.*)$", markdown, re.M)
        for section in re.sub(r" \(.*\)", "", sections).split("; "):
            assert section in headings or section == "all sections", section
