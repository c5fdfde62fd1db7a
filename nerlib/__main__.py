"""python -m nerlib [FILE.yaml …] [-p NAME VALUE …] [--only 03]: notebooks 01 to 04 through papermill, then the pages.

`--only 03` runs one notebook alone, which is enough for one run of many; `--only 05` sets finished runs side by side.
Each notebook runs in a process of its own. A failing one leaves its executed notebook and its page, with the error on
top; the pages of what there is are made, the exit code is 1, and the failing cell's own error is the last line.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import nbformat

from nerlib import report, runs
from nerlib.evaluation import score_table
from nerlib.params import Comparison, Params


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {name[:2]: name for name in (*runs.STAGES, runs.COMPARISON)}
    parser.add_argument("files", nargs="*", metavar="FILE.yaml", help="parameter files; a later one wins")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter more")
    parser.add_argument("--only", choices=names, help="run this notebook alone")
    parser.add_argument("--final", action="store_true", help="enter the scoring of the test part in the ledger")
    arguments = parser.parse_args()
    if not arguments.files and not arguments.p:
        parser.error("give a parameter file, for example params/quickstart.yaml")
    notebooks = [names[arguments.only]] if arguments.only else list(runs.STAGES)
    try:
        params = (Comparison if runs.COMPARISON in notebooks else Params).from_yaml(*arguments.files, **dict(arguments.p))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    with runs.locked(params.run) as lock:
        _run(params, notebooks, arguments, lock)


def _run(params: Params, notebooks: list[str], arguments: argparse.Namespace, lock: int) -> None:
    folder, error = runs.folder(params.run), ""
    for notebook in notebooks:  # what an earlier run under this name left is not this run's
        number = notebook[:2]
        for old in [*folder.glob(f"{number}_*.*"), folder / "stages" / f"{number}.json", *folder.glob(f"figures/{number}_*")]:
            old.unlink(missing_ok=True)
    for notebook in notebooks:
        print(f"\n{notebook}  {runs.STAGES.get(notebook, 'Comparison')}", flush=True)
        output = folder / f"{notebook}.ipynb"
        command = [sys.executable, "-m", "papermill", str(runs.ROOT / "notebooks" / output.name), str(output), "-k", "python3",
                   "--stderr-file", "-"]  # the kernel's progress bars, to stdout
        command += [word for file in arguments.files for word in ("-f", file)]
        command += [word for name, value in arguments.p for word in ("-r", name, value)]  # Params alone reads the value
        alone = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}  # nobody sits before it
        code = subprocess.run(command, pass_fds=[lock], env=alone).returncode
        stage = folder / "stages" / f"{notebook[:2]}.json"
        # A notebook is complete by its own record only: sys.exit(0) in a cell, too, ends papermill with 0.
        if code or not stage.is_file() or runs.read_json(stage)["status"] != "complete":
            error = _error(output) or f"papermill ended with exit code {code} before the last cell"
            runs.mark(params.run, notebook, "failed", error)
            break
    page = report.write_pages(folder)
    if arguments.final and not error:
        runs.enter_in_ledger(params.run)
    report.write_runs(folder.parent)
    if error:
        sys.exit(f"\n{page}\n{notebook} failed: {error}")
    if not (folder / "metrics.json").is_file():  # a comparison, or notebook 01 or 02 alone
        return print(f"\n{page}")
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
