"""Pages for readers, each one HTML file without script or request: a run's executed notebooks, its front page, all runs.

    python -m nerlib.report [RUN …]   writes reports/index.html, and the pages of the named runs again
"""

import argparse
import base64
import contextlib
import fcntl
import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup
from nbconvert import HTMLExporter
from PIL import Image

from nerlib import annotation, card, evaluation, highlight
from nerlib.params import Params
from nerlib.runs import ROOT, STAGES, now, place, write_atomically
from nerlib.statistics import span

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = {"03_confusion_mentions": "Rows are the types in the corpus, columns what the model made of them; unlike in the "
                                    "scores, a mention counts here even if its boundaries are wrong.",
           "03_learning_curves": "Learning curves"}
NAMES = {"run", "data", "data_validation", "data_test"}  # parameters that say where, not what
DOWNLOADS = {".csv", ".ipynb", ".json", ".npy", ".parquet", ".txt"}
NUMBER = re.compile(r"[-+−]?[\d.,]*\d(e[-+]?\d+)?\s?%?|nan|[–-]", re.IGNORECASE)


def write_pages(run_folder: Path) -> Path:
    """Writes NN_name.html for each executed NN_name.ipynb, then index.html, and returns the latter's path.
    Warns of a notebook whose file is damaged, as a killed run may leave it, and goes on."""
    notebooks = sorted(run_folder.glob("[0-9][0-9]_*.ipynb"))
    for notebook in notebooks:
        try:
            export_notebook(notebook, notebooks)
        except nbformat.reader.NotJSONError as error:
            warnings.warn(f"no page for {notebook}, its file is damaged: {error}", stacklevel=2)
    return write_index(run_folder)


def export_notebook(notebook: Path, siblings: Iterable[Path] = ()) -> Path:
    """Writes an executed notebook's page beside it, with links to its siblings' pages, and returns the page's path.
    Raises FileNotFoundError, and nbformat.reader.NotJSONError (a ValueError) where the file is damaged."""
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [cell for cell in nb.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    failed = next((cell for cell in nb.cells if cell.metadata.get("papermill", {}).get("exception")
                   or any(output.output_type == "error" for output in cell.get("outputs", []))), None)
    if failed:
        failed.metadata["failed"], failed["id"] = True, "failed"  # nbconvert makes the anchor from the id
    exporter = HTMLExporter(template_name="nerlib", extra_template_basedirs=[str(TEMPLATES)],
                            exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True)
    html, _ = exporter.from_notebook_node(nb, {"metadata": {"name": notebook.stem, "path": str(notebook.parent)}})
    title, contents, body = _refine(html)
    stage, history = _read(notebook.parent / f"stages/{notebook.stem[:2]}.json"), nb.metadata.get("papermill")
    return _page("notebook.html.j2", notebook.with_suffix(".html"), siblings, title=title or notebook.stem,
                 contents=contents, body=Markup(body), failed=failed, stage=stage, history=history)


def write_index(run_folder: Path) -> Path:
    """Writes index.html from whatever files a complete, failed or unfinished run or comparison left, and returns its path."""
    stages = {stem: _read(run_folder / f"stages/{stem[:2]}.json") for stem in STAGES}
    pages = sorted(run_folder.glob("[0-9][0-9]_*.html"))
    stage, kept = (_read(run_folder / name) for name in ("stages/05.json", "comparison.json"))
    if (stage or kept) and not any(stages.values()):
        kept = kept if stage.get("status") == "complete" else {}  # it would be an earlier one's
        return _page("comparison.html.j2", run_folder / "index.html", pages, stage=stage, kept=kept, span=span)
    metrics = _trained(run_folder, "metrics.json")
    figures = [(caption, Image.open(path).text.get("Description"), base64.b64encode(path.read_bytes()).decode())
               for name, caption in FIGURES.items() if metrics and (path := run_folder / f"figures/{name}.png").exists()]
    files = [(path.name, path.stat().st_size) for path in sorted(run_folder.iterdir()) if path.suffix in DOWNLOADS]
    files += [(f"{path.name}/", sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
              for path in (run_folder / "figures", run_folder / "model") if path.is_dir()]
    tested = "test" if metrics.get("test") else "validation"
    part = metrics.get(tested) if isinstance(metrics.get(tested), dict) else {}
    return _page("front.html.j2", run_folder / "index.html", pages,
                 metrics=metrics, figures=figures, files=files, stages=stages, part=tested, warning=card.warning,
                 source=evaluation.source_report(part["default"]).get("source") if part.get("default") else None,
                 errors=_telling(run_folder, tested) if metrics else None)


def _telling(run_folder: Path, part: str) -> Markup | None:
    """Errors that stand for many, in their sentences; None where there is no readable table, or no error."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        table = pd.read_parquet(run_folder / "predictions.parquet")
        table = table[table["part"] == part].reset_index(drop=True)
        if chosen := annotation.telling(table, evaluation.align(table)):
            return Markup(highlight.sentences(table, *map(list, zip(*chosen, strict=True))).data)
    return None


def write_runs(reports: Path) -> Path:
    """Writes index.html of all runs in `reports`, newest first, those with another test part or other types apart, and returns
    its path. Of several processes that do so at once, the last one sees what all have made."""
    with (reports / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _write_runs(reports)


def _write_runs(reports: Path) -> Path:
    folders = [path for path in sorted(reports.glob("*/")) if os.access(path, os.R_OK | os.X_OK)]
    runs = sorted((row for row in map(_summary, folders) if row["stages"]), key=lambda row: row["made"], reverse=True)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in runs:
        if row["status"] == "complete":
            groups.setdefault((row["record"]["split"]["fingerprint"], *row["metrics"]["types"]), []).append(row)
    defaults = Params().model_dump()
    for rows in groups.values():
        values = [defaults | row["record"]["parameters"] for row in rows]
        names = [name for name in {name: None for row in values for name in row} if name not in NAMES]
        differ = {name for name in names if any(row.get(name) != values[0].get(name) for row in values)}
        for row, own in zip(rows, values, strict=True):
            row["differs"] = {name: own[name] for name in names
                              if name in own and name in (differ if len(rows) > 1 else row["record"]["changed"])}
            row["same_validation"] = len({one["record"]["split"].get("validation_fingerprint") for one in (row, rows[0])}) == 1
    others = {"Comparisons": [(path.name, stage["status"]) for path in folders if (stage := _read(path / "stages/05.json"))],
              "Searches": [(path.name, "complete") for path in folders if (path / "study.db").is_file()]}
    return _page("runs.html.j2", reports / "index.html", [], title="All runs", groups=list(groups.values()), others=others,
                 pages_of={path.name for path in folders if (path / "index.html").is_file()},
                 open=[row for row in runs if row["status"] != "complete"])


def _summary(folder: Path) -> dict[str, Any]:
    """What the index of runs says of one: name, status, what is recorded of it."""
    stages = {stem: stage for stem in STAGES if (stage := _read(folder / f"stages/{stem[:2]}.json"))}
    failed = [stem for stem, stage in stages.items() if stage.get("status") == "failed"]
    record, metrics = _trained(folder, "run.json"), _trained(folder, "metrics.json")
    kinds = {"split": dict, "corpus": dict, "parameters": dict, "changed": dict}
    whole = (all(isinstance(record.get(name), kind) for name, kind in kinds.items()) and isinstance(metrics.get("types"), list)
             and all(isinstance(record[part].get(name), str) for part, name in (("split", "fingerprint"), ("corpus", "source")))
             and all(stage.get("status") == "complete" for stage in stages.values()))
    starts = [stage["started"] for stage in stages.values() if isinstance(stage.get("started"), str)]
    times = [stage["seconds"] for stage in stages.values() if isinstance(stage.get("seconds"), int | float)]
    return {"name": folder.name, "stages": stages, "record": record, "metrics": metrics, "failed": failed,
            "begun": min(starts, default=""),
            "status": "failed" if failed else "complete" if whole else "running" if _busy(folder, stages) else "unfinished",
            "made": str(record.get("completed") or max(starts, default="")), "seconds": sum(times) if times else None}


def _busy(folder: Path, stages: dict[str, dict[str, Any]]) -> bool:
    """Whether a notebook of the run has begun and a process still holds the run's lock."""
    if any(stage.get("status") == "running" for stage in stages.values()):
        with contextlib.suppress(FileNotFoundError), (folder / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def write_search(folder: Path, question: str, limits: str, trials: pd.DataFrame, start: int | None,
                 git: Mapping[str, Any]) -> Path:
    """Writes the page of a search, index.html, from its trials (trial, validation_f1, parameters, state), the number of the one
    that it started from and the commit that made them, and returns its path."""
    figures = [(Image.open(path).text["Description"], base64.b64encode(path.read_bytes()).decode())
               for path in sorted((folder / "figures").glob("search_*.png"), reverse=True)]
    rows = trials.sort_values("validation_f1", ascending=False).to_dict("records")
    return _page("search.html.j2", folder / "index.html", [], title="Search", question=question, limits=limits, trials=rows,
                 start=next((row for row in rows if row["trial"] == start), None), columns=list(trials.columns),
                 figures=figures, git=git, yaml=(folder / "best.yaml").read_text("utf-8"), made=now())


def _page(template: str, path: Path, siblings: Iterable[Path], **content: Any) -> Path:
    """Renders one page of the run whose folder path lies in; the page appears whole or not at all."""
    record = _trained(path.parent, "run.json")
    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=ChainableUndefined)
    # A failed run has no run.json, a comparison none of its own.
    begun = (_read(stage).get("git") for stage in sorted(path.parent.glob("stages/[0-9][0-9].json")))
    git = content.pop("git", None) or record.get("git") or next(filter(None, begun), None)
    content |= {"run": record.get("run") or path.resolve().parent.name, "record": record, "git": git, "here": path.stem,
                "pages": [page.stem for page in siblings], "home": path.resolve().parents[1].name == "reports"}
    write_atomically(path, env.get_template(template).render(content))
    return path


def _read(path: Path) -> dict[str, Any]:
    """A JSON record; {} where the file is missing or damaged, since the page of a failed run matters most."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _trained(run_folder: Path, name: str) -> dict[str, Any]:
    """A record of notebook 03's; {} while that is not complete, for it would be an earlier training's."""
    complete = _read(run_folder / "stages/03.json").get("status") == "complete"
    return _read(run_folder / name) if complete else {}


def _refine(html: str) -> tuple[str, list[tuple[str, str, str]], str]:
    """Title; contents as (level, anchor, text); the cells' HTML with anchors, scopes of headers, scrolling tables."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup(["script", "iframe", "object", "embed", "link", "meta", "base"]) + soup.select("style[scoped]"):
        element.decompose()
    for picture in soup.select('img:not([src^="data:"])'):  # the page may request nothing: its description remains
        picture.replace_with(picture.get("alt", ""))
    first = soup.select_one(".text_cell :is(h1, h2, h3)")
    title = first.extract().get_text().strip() if first else ""
    anchors = {element["id"] for element in soup.select("[id]")}
    for heading in soup(["h1", "h2", "h3"]):
        anchor = re.sub(r"\s+", "-", heading.get_text().strip())  # as in JupyterLab, so that links work in both
        while anchor in anchors:
            anchor += "-"
        anchors.add(anchor)
        heading.name, heading["id"] = "h3" if heading.name == "h3" else "h2", anchor
    contents = [(h.name, h["id"], h.get_text().strip()) for h in soup.select(".text_cell :is(h2, h3)")]
    for block in soup("pre"):
        block["tabindex"] = 0  # what scrolls can be scrolled by keyboard
    for table in soup("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "table", "role": "group", "tabindex": 0, "aria-label": "Table"}))
        for th in table("th"):
            th["scope"] = "col" if th.find_parent("thead") else "row"
            th["class"] = [*th.get("class", []), *["long"] * (len(th.get_text()) > 40)]  # may be broken
        columns = zip(*(reversed(row(["td", "th"])) for row in table.select("tbody tr")), strict=False)
        numeric = [all(NUMBER.fullmatch(end) for cell in column for end in cell.get_text(strip=True).split(" to "))
                   for column in columns]
        for row in table("tr"):  # from the right, since cells that span rows are missing on the left
            for cell, is_number in zip(reversed(row(["td", "th"])), numeric, strict=False):
                cell["class"] = [*cell.get("class", []), *(["num"] if is_number else [])]
    return title, contents, str(soup)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.report", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a folder in reports/ whose pages are written again")
    try:
        folders = [place(name) for name in parser.parse_args().runs]
    except ValueError as error:
        sys.exit(str(error))
    if missing := [folder.name for folder in folders if not (folder / "stages").is_dir()]:
        sys.exit(f"reports/{missing[0]}: no run of this name")
    print(*map(write_pages, folders), write_runs(ROOT / "reports"), sep="\n")


if __name__ == "__main__":
    main()
