"""A run's folder: where it stands, what made it, which of its stages are complete.

    python -m nerlib.runs repeat reports/<run>   makes it again and says whether it is the same
"""

import argparse
import csv
import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nerlib import lock
from nerlib.params import NAME
from nerlib.provenance import git_state, provenance

# The installation is editable, so the package's parent is the project; paths in parameters start there.
ROOT = Path(__file__).resolve().parents[1]
STAGES = {"01_eda": "The corpus", "02_preprocessing": "What the model sees", "03_training": "Training and scores",
          "04_error_analysis": "The errors"}
COMPARISON = "05_comparison"  # not a stage of a run: it reads many
KINDS = {"run": ("run.json", "stages/0[1-4].json"), "comparison": ("comparison.json", "stages/05.json"),
         "search": ("study.db",)}
LEDGER = ROOT / "reports" / "results" / "test-ledger.jsonl"


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # of a full disk


def write_json(path: Path, content: Any) -> None:
    """JSON with keys in the given order; numpy numbers become Python's, and nan, which JSON has not, null."""
    plain = json.loads(json.dumps(content, default=lambda x: x.item()), parse_constant=lambda name: None)
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame, mark: str = "") -> None:
    """The frame's columns, without its index, `harmless`, text in quotes, whatever a spreadsheet splits at. `mark` stands
    before it: a byte order mark, without which some do not take it for UTF-8."""
    write_atomically(path, mark + harmless(frame).to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before each text that a spreadsheet would take for a formula and compute."""
    return frame.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
                     else cell)


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text("utf-8"))


def mark(run: str, notebook: str, status: str, error: str | None = None) -> dict[str, Any]:
    """Write and return a notebook's own record, reports/<run>/stages/NN.json: begun by its first cell ("running"),
    closed by its last ("complete"), or by the runner ("failed", with the error). `notebook`: of STAGES, or COMPARISON."""
    if status == "running":
        lock.take(folder(run, "comparison" if notebook == COMPARISON else "run"))
    path, moment = folder(run) / "stages" / f"{notebook[:2]}.json", datetime.now(UTC)
    begun = read_json(path)["started"] if status != "running" and path.is_file() else moment.isoformat(timespec="seconds")
    seconds = None if status == "running" else round((moment - datetime.fromisoformat(begun)).total_seconds(), 1)
    record = {"notebook": notebook, "title": STAGES.get(notebook, "Comparison"), "status": status, "started": begun,
              "seconds": seconds, "error": error, "git": git_state()}
    write_json(path, record)
    if status == "complete":
        lock.release()
    return record


def now() -> str:
    """This moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def place(run: str) -> Path:
    """reports/<run>. Raises ValueError for what is no run's name, and for a link that leads out of reports/."""
    path = ROOT / "reports" / run
    if not re.fullmatch(NAME, run) or path.resolve().parent != path.parent.resolve():
        raise ValueError(f"{run!r} is not the name of a folder in {path.parent}" if path.is_symlink() else
                         f"{run!r} cannot be a run: a name has letters, digits and . _ - and begins with a letter or digit")
    return path


def folder(run: str, kind: str = "") -> Path:
    """reports/<run>, made if there is none. `kind`, of KINDS: what will be written there; raises ValueError where something of
    another kind stands."""
    path = place(run)
    for other, names in KINDS.items() if kind else ():
        if other != kind and any(next(path.glob(name), None) for name in names):
            raise ValueError(f"reports/{run} holds a {other}: give this {kind} another name")
    path.mkdir(parents=True, exist_ok=True)
    return path


def is_complete(path: Path, number: str) -> bool:
    """Whether a run's folder has the record of a completed notebook, as "03"; one that cannot be read is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return read_json(path / "stages" / f"{number}.json")["status"] == "complete"
    return False


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder alone."""

    path: Path

    @classmethod
    def load(cls, run: str, whole: bool = False) -> "Run":
        """The run of that name; `whole`: with its scores. Raises FileNotFoundError where notebook 03 has not completed it, or
        where it was restored from an archive, which has no scores."""
        path = place(run)
        if not (path / "run.json").is_file():
            raise FileNotFoundError(f"reports/{run}/run.json: no finished training under this name; "
                                    f"run notebook 03 with run = {run!r} first")
        if (path / "stages/03.json").is_file() and not is_complete(path, "03"):
            raise FileNotFoundError(f"reports/{run}/stages/03.json: this training is under way or did not end well; "
                                    f"run notebook 03 with run = {run!r} to its end first")
        if whole and not (path / "scores.npy").is_file():
            raise FileNotFoundError(f"reports/{run}/scores.npy: this run was restored from its archive, which has no scores; "
                                    f"remove reports/{run}, then run notebook 03 with run = {run!r}")
        return cls(path)

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """run.json: parameters, provenance, corpus, split, timings."""
        return read_json(self.path / "run.json")

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """metrics.json: every score, with its definition."""
        return read_json(self.path / "metrics.json")

    @cached_property
    def training(self) -> pd.DataFrame:
        """The training part: sentence, position, word, pos, gold."""
        return pd.read_parquet(self.path / "training.parquet")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row a word of validation and test. Raises ValueError for those of an earlier version."""
        table = pd.read_parquet(self.path / "predictions.parquet")
        if "viterbi" not in table:
            raise ValueError(f"{self.path / 'predictions.parquet'} was made by an earlier version, without the column viterbi: "
                             "run notebook 03 again")
        return table

    @cached_property
    def scores(self) -> np.ndarray:
        """Log-probabilities, (rows of predictions, tags) float32; the tags stand in metrics.json."""
        return np.load(self.path / "scores.npy", allow_pickle=False)


def enter_in_ledger(run: str, path: Path = LEDGER) -> None:
    """Add to the ledger that a finished run scored a test part: run, hash of its parameters without seeds, fingerprint,
    commit. A scoring that stands there is not added again; a run without test scores adds nothing."""
    finished = Run.load(run)
    if "test" not in finished.metrics:
        return
    record = finished.record
    # Those that differ from the defaults: parameters that come to exist later change no hash. The split's seed makes another
    # test part, which the fingerprint tells, but no other configuration.
    settings = {name: value for name, value in record["changed"].items()
                if name not in ("run", "seed", "split_seed") and "data" not in name}
    line = {"run": run, "parameters": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16],
            "seed": record["parameters"]["seed"], "fingerprint": record["split"]["fingerprint"][:16],
            "commit": record["git"]["commit"], "completed": record["completed"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if line not in [json.loads(text) for text in file]:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def command_line(values: Mapping[str, Any]) -> list[str]:
    """Parameters as the command line of `python -m nerlib` takes them: -p NAME VALUE …"""
    return [word for name, value in values.items()
            for word in ("-p", name, str(value).lower() if isinstance(value, bool) else str(value))]


def main() -> None:
    from nerlib.repeat import repeat  # here, since it needs this module

    parser = argparse.ArgumentParser(prog="python -m nerlib.runs", description=__doc__)
    parser.add_argument("what", choices=["repeat"], help="make a run again and compare")
    parser.add_argument("folder", type=Path, help="reports/<run>")
    parser.add_argument("--data", default="", help="where its corpus lies now")
    arguments = parser.parse_args()
    try:
        given = ROOT / "reports" / arguments.folder if len(arguments.folder.parts) == 1 else arguments.folder
        if given.absolute().parent.resolve() != (ROOT / "reports").resolve():
            raise ValueError(f"{arguments.folder}: not a folder in {ROOT / 'reports'}, where runs are kept")
        made = Run.load(given.name, whole=True).record
        differences = repeat(given, arguments.data)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    now_made = provenance()
    elsewhere = [f"{part} {key}: {made[part].get(key)}, now {value}" for part in ("git", "versions", "hardware")
                 for key, value in now_made[part].items() if made[part].get(key) != value]
    print(*[f"made otherwise: {line}" for line in elsewhere], *(differences or ["equal, byte by byte"]), sep="\n")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
