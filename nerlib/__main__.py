"""python -m nerlib [FILE.yaml …] [-p NAME VALUE …] [--only 03]: notebooks 01 to 04 through papermill, then the pages.

`--only 03` runs one notebook alone, which is enough for one run of many; `--only 05` sets finished runs side by side.
Each notebook runs in a process of its own. A failing one leaves its executed notebook and its page, with the error on
top; the pages of what there is are made, the exit code is 1, and the failing cell's own error is the last line.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import yaml

from nerlib import card, encoder, lock, report, runs, split
from nerlib.evaluation import score_table
from nerlib.params import Comparison, Params, once

SECONDS = 10  # that an interrupted notebook has to end by itself


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {name[:2]: name for name in (*runs.STAGES, runs.COMPARISON)}
    parser.add_argument("files", nargs="*", metavar="FILE.yaml", help="parameter files; a later one wins")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter more")
    parser.add_argument("--only", choices=names, help="run this notebook alone")
    parser.add_argument("--final", action="store_true", help="enter the scoring of the test part in "
                        "reports/results/test-ledger.jsonl")
    arguments = parser.parse_args()
    if not arguments.files and not arguments.p:
        parser.error("give a parameter file, for example params/quickstart.yaml")
    notebooks = [names[arguments.only]] if arguments.only else list(runs.STAGES)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is stopped ends its notebook too
    try:
        params = _params(arguments, notebooks)
        folder = runs.folder(params.run)
        with lock.locked(folder) as held:
            _run(params, folder, notebooks, arguments, held)
    except BlockingIOError as error:
        sys.exit(str(error))
    except OSError as error:  # a full disk, a folder that cannot be written
        sys.exit(f"cannot go on: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _params(arguments: argparse.Namespace, notebooks: list[str]) -> Params:
    """The parameters; all that can be known to be wrong before anything is computed ends the program here."""
    try:
        comparing = runs.COMPARISON in notebooks
        params = (Comparison if comparing else Params).from_yaml(*arguments.files, **once(arguments.p))
        if arguments.final and not (params.score_test and "03_training" in notebooks):
            raise ValueError("--final: this scores no test part; it needs notebook 03 and score_test = true")
        if {"02_preprocessing", "03_training"} & set(notebooks):
            encoder.check(params)
        if {"01_eda", "02_preprocessing", "03_training"} & set(notebooks):
            split.load(params, runs.ROOT)  # a notebook would say it with all that was called on the way
        runs.folder(params.run, "comparison" if comparing else "run")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    return params


def _run(params: Params, folder: Path, notebooks: list[str], arguments: argparse.Namespace, held: int) -> None:
    _set_aside(folder)
    for notebook in notebooks:  # what an earlier run under this name left is not this run's
        number = notebook[:2]
        for old in [*folder.glob(f"{number}_*.*"), folder / "stages" / f"{number}.json", *folder.glob(f"figures/{number}_*")]:
            old.unlink(missing_ok=True)
    if (folder / "index.html").is_file():  # nor does its front page show this one, which is unfinished
        report.write_index(folder)
    for notebook in notebooks:
        print(f"\n{notebook}  {runs.STAGES.get(notebook, 'Comparison')}", flush=True)
        if error := _execute(folder, notebook, params, held):
            runs.mark(params.run, notebook, "failed", error)
            break
    page = report.write_pages(folder)
    if arguments.final and not error:
        runs.enter_in_ledger(params.run)
    report.write_runs(folder.parent)
    if error:
        kept = "\nThe results of the run before it stand in before/" if (folder / "before").is_dir() else ""
        sys.exit(f"\n{page}{kept}\n{notebook} failed: {error}")
    if _finished(folder):
        shutil.rmtree(folder / "before", ignore_errors=True)
    if not all((folder / name).is_file() for name in ("metrics.json", "run.json")):  # a comparison, or notebook 01 or 02 alone
        return print(f"\n{page}")
    metrics = runs.read_json(folder / "metrics.json")
    part = "test" if "test" in metrics else "validation"
    scores = score_table(metrics[part]["default"]).to_string(float_format="{:.4f}".format)
    warning = card.warning(runs.read_json(folder / "run.json"), metrics)
    print(f"\n{part}, seqeval default\n{scores}\n", *filter(None, [warning]), page, sep="\n")


def _set_aside(folder: Path) -> None:
    """Keep what an earlier run finished under this name in before/, until this one is complete: links, where there are any."""
    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
    if _finished(folder):
        unfinished = folder / ".before"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(folder, unfinished, symlinks=True, copy_function=link,
                        ignore=shutil.ignore_patterns("before", ".*", "checkpoints", "log.txt"))
        shutil.rmtree(folder / "before", ignore_errors=True)
        unfinished.rename(folder / "before")


def _finished(folder: Path) -> bool:
    """Whether a training or a comparison stands here, whole."""
    return any((folder / name).is_file() and runs.is_complete(folder, number)
               for name, number in (("run.json", "03"), ("comparison.json", "05")))


def _execute(folder: Path, notebook: str, params: Params, held: int) -> str:
    """Run a notebook to its end; returns what went wrong, or ''."""
    output = folder / f"{notebook}.ipynb"
    command = [sys.executable, "-m", "papermill", str(runs.ROOT / "notebooks" / output.name), str(output), "-k", "python3",
               "--stderr-file", "-"]  # the kernel's progress bars, to stdout
    taken = {"04_error_analysis": ["run"], runs.COMPARISON: Comparison.__annotations__}.get(notebook, Params.model_fields)
    command += ["-y", yaml.safe_dump({name: value for name, value in params if name in params.model_fields_set & set(taken)},
                                     sort_keys=False)]
    alone = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}  # nobody sits before it
    for left in (1, 0):
        with subprocess.Popen(command, pass_fds=[held], env=alone | {lock.HELD: str(folder / ".lock")}) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                try:
                    process.wait(SECONDS)  # Ctrl-C has reached it too
                except subprocess.TimeoutExpired:
                    kernels = psutil.Process(process.pid).children(recursive=True)
                    process.terminate()
                    psutil.wait_procs(kernels, SECONDS)  # they end when it is gone, and say so
                return "interrupted; the same command goes on from the last checkpoint of the training"
        # Jupyter chooses a kernel's ports before the kernel takes them: of two that start at once, one may find them taken.
        if code != 1 or _error(output) or (folder / "stages" / f"{notebook[:2]}.json").is_file():
            break
        if left:
            print("The kernel did not start; once more.", flush=True)
    # A notebook is complete by its own record only: sys.exit(0) in a cell, too, ends papermill with 0.
    if not code and runs.is_complete(folder, notebook[:2]):
        return ""
    dead = "the kernel died; if nobody killed it, memory may have run out" if code == 138 else ""
    return _error(output) or dead or f"papermill ended with exit code {code} before the last cell"


def _error(executed: Path) -> str:
    """The failing cell's own error in an executed notebook, or ''."""
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except (OSError, ValueError):  # none, or half of one
        return ""
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return next((f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"), "")


if __name__ == "__main__":
    main()
