"""python -m nerlib params/gmb.yaml [more.yaml …] [-p NAME VALUE …]: notebooks 01 to 04 through papermill, then the pages.

Each notebook runs in a process of its own. A failing one leaves its executed notebook and its page, with the error on
top; the pages of what there is are made, the exit code is 1, and the failing cell's own error is the last line.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import nbformat

from nerlib import report, runs
from nerlib.evaluation import score_table
from nerlib.params import Params


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE.yaml", help="parameter files; a later one wins")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter more")
    arguments = parser.parse_args()
    try:
        params = Params.from_yaml(*arguments.files, **dict(arguments.p))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    folder, error = runs.folder(params.run), ""
    for old in folder.glob("0*.*"):  # what an earlier run under this name left is not this run's
        old.unlink()
    for old in [*folder.glob("stages/*.json"), *folder.glob("figures/*")]:
        old.unlink()
    for notebook in runs.STAGES:
        print(f"\n{notebook}  {runs.STAGES[notebook]}", flush=True)
        output = folder / f"{notebook}.ipynb"
        command = [sys.executable, "-m", "papermill", str(runs.ROOT / "notebooks" / output.name), str(output), "-k", "python3",
                   "--stderr-file", "-"]  # the kernel's progress bars, to stdout
        command += [word for file in arguments.files for word in ("-f", file)]
        command += [word for name, value in arguments.p for word in ("-r", name, value)]  # Params alone reads the value
        code = subprocess.run(command).returncode
        stage = folder / "stages" / f"{notebook[:2]}.json"
        # A notebook is complete by its own record only: sys.exit(0) in a cell, too, ends papermill with 0.
        if code or not stage.is_file() or runs.read_json(stage)["status"] != "complete":
            error = _error(output) or f"papermill ended with exit code {code} before the last cell"
            runs.mark(params.run, notebook, "failed", error)
            break
    page = report.write_pages(folder)
    if error:
        sys.exit(f"\n{page}\n{notebook} failed: {error}")
    metrics = runs.read_json(folder / "metrics.json")
    part = "test" if "test" in metrics else "validation"
    scores = score_table(metrics[part]["default"]).to_string(float_format="{:.4f}".format)
    print(f"\n{part}, seqeval default\n{scores}\n\n{page}")


def _error(executed: Path) -> str:
    """The failing cell's own error in an executed notebook, or ''."""
    cells = nbformat.read(executed, as_version=4).cells if executed.is_file() else []
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return next((f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"), "")


if __name__ == "__main__":
    main()
