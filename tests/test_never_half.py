"""Runs that end badly: killed, interrupted, on a full disk, two at once. Nothing half looks whole, nothing is lost."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook

from nerlib import __main__, comparison, lock, report, results, runs, training
from nerlib.params import Params
from nerlib.split import load

FIRST = """from nerlib import runs
from nerlib.params import Params
params = Params.from_notebook(globals())
stage = runs.mark(params.run, "01_eda", "running")
here = runs.folder(params.run)"""
STOPPED = "01_eda failed: interrupted; the same command goes on from the last checkpoint of the training"
DEAD = "the kernel died; if nobody killed it, memory may have run out"
SLEEP = "import os, time\n(here / 'kernel').write_text(str(os.getpid()))\ntime.sleep(300)"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the package with a notebook 01 of one cell, which `run` is given."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(runs.ROOT / "nerlib", root / "nerlib", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "notebooks").mkdir()
    return root


def write_notebook(project, cell):
    cells = [new_code_cell("# Parameters and their defaults\nrun: str = 'x'", metadata={"tags": ["parameters"]}),
             *map(new_code_cell, [FIRST, cell, "stage = runs.mark(params.run, '01_eda', 'complete')"])]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), project / "notebooks/01_eda.ipynb")


def start(project, *arguments):
    def heed():  # Ctrl-C, which what a shell runs in the background ignores
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-m", *arguments], cwd=project, text=True, start_new_session=True, preexec_fn=heed,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(project)})


def score(f1):
    return {"default": {name: {"precision": f1, "recall": f1, "f1-score": f1, "support": 9} for name in ("geo", "micro avg")}}


def finish(reports, name, statuses=("complete",) * 4):
    """The folder of a run that is finished, or ended as the statuses say."""
    folder = reports / name
    for number, status in enumerate(statuses, 1):
        runs.write_json(folder / f"stages/0{number}.json", {
            "notebook": list(runs.STAGES)[number - 1], "status": status, "started": "2025-11-22T17:58:01+00:00", "seconds": 1})
    runs.write_json(folder / "metrics.json", {"tags": ["O"], "types": ["geo"], "test": score(0.5), "validation": score(0.5)})
    runs.write_json(folder / "run.json", {"run": name, "parameters": {"seed": 1}, "changed": {}, "corpus": {"source": "x"},
                                          "split": {"kind": "random", "fingerprint": "f00d", "test": 9}})
    for file in ("predictions.parquet", "01_eda.html", "figures/01_mentions.png", "model/model.safetensors"):
        runs.write_atomically(folder / file, f"what {name} made earlier: {file}")
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")}


def banner(page):
    return BeautifulSoup(page.read_text("utf-8"), "html.parser").select_one("header .banner").get_text(" ", strip=True)


# --- whatever ends a notebook

@pytest.mark.slow
@pytest.mark.parametrize(("cell", "message"), [
    ("import sys\nsys.exit(0)", "SystemExit: 0"),
    ("import os\nos._exit(0)", DEAD), ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", DEAD),
    ("shown = (here / 'index.html').read_text('utf-8')\nassert 'unfinished' in shown\n1 / 0",
     "ZeroDivisionError: division by zero")])
def test_a_notebook_that_ends_badly_fails_its_run_and_leaves_the_one_before_it(project, request, cell, message):
    write_notebook(project, cell)
    folder = finish(project / "reports", f"bad-{request.node.callspec.indices['cell']}")
    report.write_index(folder)
    before = contents(folder)
    process = start(project, "nerlib", "-p", "run", folder.name, *([] if "index.html" in cell else ["--only", "01"]))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert errors.strip().split("\n")[-2:] == ["The results of the run before it stand in before/", f"01_eda failed: {message}"]
    assert contents(folder / "before") == before
    assert runs.read_json(folder / "stages/01.json") | {"status": "failed", "error": message} == runs.read_json(
        folder / "stages/01.json")
    assert "failed in 01 eda" in banner(folder / "index.html")
    assert (folder / "01_eda.html").read_bytes() != before["01_eda.html"]
    index = BeautifulSoup((project / "reports/index.html").read_text("utf-8"), "html.parser")
    [row] = [row for row in index.select("tbody tr") if row.th.get_text() == folder.name]
    assert "failed" in row.get_text()


@pytest.mark.slow
@pytest.mark.parametrize("dying, cell, code, starts, message", [
    (1, "1", 0, 2, ""), (9, "1", 1, 2, "papermill ended with exit code 1 before the last cell"),
    (0, "1 / 0", 1, 1, "ZeroDivisionError: division by zero"),
    (0, "(here / 'stages/01.json').unlink(); import os; os.kill(os.getpid(), 9)", 1, 1, DEAD)])
def test_a_kernel_that_does_not_start_is_started_once_more(project, tmp_path, dying, cell, code, starts, message):
    (project / "ipykernel_launcher.py").write_text(f"""import sys
with open({str(tmp_path / "starts")!r}, "a+") as file:
    file.write("x")
    file.seek(0)
    if len(file.read()) <= {dying}:
        sys.exit("ports are taken")
from ipykernel import kernelapp
kernelapp.launch_new_instance()""")
    write_notebook(project, cell)
    try:
        done = start(project, "nerlib", "-p", "run", "ports", "--only", "01")
        output, error = done.communicate(timeout=300)
    finally:
        (project / "ipykernel_launcher.py").unlink()
    assert done.returncode == code and len((tmp_path / "starts").read_text()) == starts
    assert output.count("The kernel did not start; once more.") == starts - 1
    assert error.endswith(f"failed: {message}\n" if message else "")


@pytest.mark.slow
def test_a_run_that_succeeds_takes_the_place_of_the_one_before_it(project):
    write_notebook(project, "assert (here / 'before/predictions.parquet').is_file()")
    folder = finish(project / "reports", "good")
    process = start(project, "nerlib", "-p", "run", folder.name, "--only", "01")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and output.strip().endswith(str(folder / "index.html")), errors
    assert not (folder / "before").exists() and runs.is_complete(folder, "01")


@pytest.mark.slow
def test_a_lesser_run_that_succeeds_does_not_take_the_place_of_a_finished_one(project):
    write_notebook(project, "pass")
    folder = finish(project / "reports", "lesser")
    __main__._set_aside(folder)
    (folder / "run.json").unlink()  # as a training that failed afterwards leaves it
    before = contents(folder / "before")
    process = start(project, "nerlib", "-p", "run", folder.name, "--only", "01")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert contents(folder / "before") == before and "run.json" in before


@pytest.mark.parametrize(("statuses", "kept"), [
    (["complete"] * 4, True), (["complete", "complete", "complete", "failed"], True),
    (["complete", "complete", "running"], False), (["complete", "complete", "failed"], False), (["failed"], False),
    ([], False)])
def test_only_finished_results_are_set_aside_and_never_replaced_by_unfinished_ones(tmp_path, statuses, kept):
    folder = finish(tmp_path, "run", statuses)
    (folder / "before").mkdir()
    (folder / "before/run.json").write_text("an earlier one")
    (folder / "checkpoints/1").mkdir(parents=True)
    now = {name: content for name, content in contents(folder).items() if not name.startswith("before")}
    __main__._set_aside(folder)
    assert contents(folder / "before") == (now if kept else {"run.json": b"an earlier one"})
    assert {name: content for name, content in contents(folder).items() if not name.startswith("before")} == now


def test_what_is_set_aside_needs_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("links are not supported here")
    monkeypatch.setattr(os, "link", refuse)
    folder = finish(tmp_path, "run")
    before = contents(folder)
    __main__._set_aside(folder)
    assert contents(folder / "before") == before


# --- two at once, and interrupted

@pytest.fixture
def at_work(project):
    """A run in the middle of its notebook."""
    write_notebook(project, SLEEP)
    name = f"at-work-{time.monotonic_ns()}"
    process = start(project, "nerlib", "-p", "run", name, "--only", "01")
    kernel, end = project / "reports" / name / "kernel", time.monotonic() + 120
    while not (kernel.is_file() and kernel.read_text()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    yield kernel.parent, process, int(kernel.read_text())
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the notebook of a killed runner, too
    process.wait()


def is_alive(pid):
    """Whether a process of this number runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid, seconds=30):
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.1)
    return not is_alive(pid)


@pytest.mark.slow
def test_a_second_process_on_a_run_is_refused_and_told_who_is_there_and_the_first_one_can_be_interrupted(project, at_work):
    folder, first, kernel = at_work
    before = contents(folder)
    second = start(project, "nerlib", "-p", "run", folder.name, "--only", "01")
    third = start(project, "papermill", "notebooks/01_eda.ipynb", str(project / "out.ipynb"), "-k", "python3", "-p", "run",
                  folder.name)
    who = (rf"reports/{folder.name}: pid {first.pid} on {re.escape(socket.gethostname())}, since 20[-\dT:]+\+00:00, "
           "or what it started")
    output, errors = second.communicate(timeout=120)
    assert second.returncode == 1 and output == "" and re.fullmatch(f"{who}, is at work here; .*\n", errors)
    assert third.wait(120) == 1 and re.search(f"BlockingIOError: {who}", third.communicate()[1])
    assert contents(folder) == before and first.poll() is None

    os.killpg(first.pid, signal.SIGINT)  # what Ctrl-C does
    output, errors = first.communicate(timeout=60)
    assert first.returncode == 1 and errors.strip().split("\n")[-1] == STOPPED
    assert runs.read_json(folder / "stages/01.json")["status"] == "failed" and gone(kernel)
    assert "failed in 01 eda" in banner(folder / "index.html")
    with lock.locked(folder):
        pass


@pytest.mark.slow
def test_a_run_that_is_told_to_end_ends_its_notebook_too(project, at_work, monkeypatch):
    folder, first, kernel = at_work
    first.terminate()
    errors = first.communicate(timeout=60)[1]
    assert first.returncode == 1 and errors.strip().split("\n")[-1] == STOPPED and gone(kernel)


@pytest.mark.slow
def test_the_notebook_of_a_killed_run_still_guards_its_folder(project, at_work):
    folder, first, kernel = at_work
    os.kill(first.pid, signal.SIGKILL)  # it alone: its notebook goes on
    assert gone(first.pid) and is_alive(kernel)
    with pytest.raises(BlockingIOError, match=f"pid {first.pid} on .*, or what it started, is"), lock.locked(folder):
        pass


def test_the_lock_refuses_waits_or_is_free(tmp_path):
    with lock.locked(tmp_path) as descriptor:
        who = f"^reports/{tmp_path.name}: pid {os.getpid()} on {socket.gethostname()}, since"
        with pytest.raises(BlockingIOError, match=who):
            lock.take(tmp_path)
        waited = []
        thread = threading.Thread(target=lambda: [waited.append(file) for file in [lock._hold(tmp_path, wait=True)]])
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not waited and os.get_inheritable(descriptor) is False
    thread.join(10)
    waited.pop().close()
    assert "pid" in (tmp_path / ".lock").read_text()  # as one that was killed leaves it
    with pytest.raises(SystemExit), lock.locked(tmp_path):
        sys.exit("a notebook failed")
    assert (tmp_path / ".lock").read_text() == ""


def test_a_notebook_holds_the_lock_from_its_first_cell_to_its_last_unless_its_runner_does(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)

    def is_free(run):
        with (runs.folder(run) / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
    runs.mark("a", "01_eda", "running")
    runs.mark("a", "01_eda", "running")  # Run All once more
    assert not is_free("a")
    runs.mark("b", "01_eda", "running")  # another name, in the same kernel
    assert is_free("a") and not is_free("b")
    runs.mark("b", "01_eda", "complete")
    assert is_free("b")
    monkeypatch.setenv(lock.HELD, str(tmp_path / "reports/a/.lock"))
    with lock.locked(runs.folder("a")):
        runs.mark("a", "01_eda", "running")
        runs.mark("a", "01_eda", "complete")
        assert not is_free("a")
    runs.mark("b", "01_eda", "running")
    assert not is_free("b")
    lock.release()


# --- disks

@pytest.fixture(scope="module")
def own_mounts():
    """The command under which a process may mount a file system that nobody else sees."""
    for command in (["unshare", "-m"], ["unshare", "-Umr"]):
        with_mount = [*command, "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
        if shutil.which("unshare") and subprocess.run(with_mount, capture_output=True).returncode == 0:
            return command
    pytest.skip("nothing can be mounted here")


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "before", "message"), [
    ("1", "head -c 9m /dev/zero > reports/fill", r"cannot go on: \[Errno 28\] No space left on device"),
    ("open(here / 'fill', 'wb').write(bytes(9 * 10**6))", "true",
     r"(cannot go on: |01_eda failed: OSError: )\[Errno 28\] No space left"),
    ("1", "mount -o remount,ro reports", r"cannot go on: \[Errno 30\] Read-only file system")])
def test_a_full_or_read_only_disk_is_told_and_costs_no_earlier_result(project, own_mounts, tmp_path, cell, before, message):
    write_notebook(project, cell)
    made = finish(tmp_path, "earlier")
    (project / "reports").mkdir(exist_ok=True)
    script = f"""mount -t tmpfs -o size=1m tmpfs reports && cp -r {made} reports/run && {{ {before}; }} 2> {tmp_path}/fill.txt
        {sys.executable} -m nerlib -p run run --only 01; code=$?; cp -r reports/run {tmp_path}/after; exit $code"""
    done = subprocess.run([*own_mounts, "sh", "-c", script], cwd=project, text=True, capture_output=True, timeout=300,
                          env=os.environ | {"PYTHONPATH": str(project)})
    assert done.returncode == 1 and re.match(message, done.stderr.strip().split("\n")[-1]), done.stderr[-2000:]
    after, earlier = contents(tmp_path / "after"), contents(made)
    kept = {name.removeprefix("before/"): content for name, content in after.items() if name.startswith("before/")} or after
    assert {name: kept.get(name) for name in earlier} == earlier
    assert not runs.is_complete(tmp_path / "after", "01") or "before/run.json" not in after
    assert not [path for path in (tmp_path / "after").rglob(".*") if re.search(r"\.\d+$", path.name)], "no temporary file stays"


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    runs.write_json(path, {"f1": 0.5})

    def fill(self, data):
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left"):
        runs.write_json(path, {"f1": 0.6})
    assert runs.read_json(path) == {"f1": 0.5} and os.listdir(tmp_path) == ["metrics.json"]


# --- a run is complete by its record only

def test_notebook_03_writes_the_record_of_a_run_after_everything_else():
    cells = nbformat.read(runs.ROOT / "notebooks/03_training.ipynb", 4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    written = re.findall(r"runs\.write_\w+\(folder / \"([\w.]+)\"|figures / \"(\w+)\"|training\.(train)\(", "\n".join(code))
    assert ["".join(names) for names in written][-1] == "run.json" and len(written) > 6
    assert code[-1] == 'stage = runs.mark(params.run, "03_training", "complete")'


def test_a_training_with_other_parameters_removes_the_record_of_the_one_before_it_first(tiny, tmp_path, monkeypatch):
    folder = finish(tmp_path, "run")
    params = Params(encoder=str(tiny), max_sentences=60)
    data, split = load(params, runs.ROOT)

    def die(self, missing_ok=False):
        os.unlink(self)
        raise KeyboardInterrupt
    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        training.train(params, data, split, folder)
    assert not (folder / "run.json").exists() and (folder / "metrics.json").exists()


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_training_that_did_not_end_is_no_run_for_any_reader(tmp_path, monkeypatch, status):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    finish(tmp_path / "reports", "cell-1")
    finish(tmp_path / "reports", "cell-2", ["complete", "complete", status])
    assert runs.Run.load("cell-1").record["run"] == "cell-1"
    for read in (runs.Run.load, comparison.Comparison.of, results.publish, runs.enter_in_ledger):
        with pytest.raises(FileNotFoundError, match="reports/cell-2/stages/03.json: this training is under way or did not end"):
            read("cell-2")
    with pytest.raises(FileNotFoundError, match="reports/cell-2/"):
        comparison.Comparison.of("cell-*")
    page = BeautifulSoup(report.write_runs(tmp_path / "reports").read_text("utf-8"), "html.parser")
    last = page("table")[-1]
    assert [row.th.get_text() for row in last.select("tbody tr")] == ["cell-2"]
    assert ("failed" if status == "failed" else "unfinished") in last.get_text()


@pytest.mark.parametrize("statuses", [["failed"], ["complete", "running"], ["complete"] * 4])
def test_a_pattern_does_not_leave_out_an_unfinished_run_unsaid(tmp_path, monkeypatch, statuses):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    finish(tmp_path / "reports", "cell-1")
    folder = finish(tmp_path / "reports", "cell-2", statuses)
    (folder / "run.json").unlink()
    (tmp_path / "reports/cell-compared/stages").mkdir(parents=True)
    (tmp_path / "reports/cell-compared/stages/05.json").write_text(json.dumps({"status": "running"}))  # no run
    with pytest.raises(FileNotFoundError, match="reports/cell-2/run.json: no finished training"):
        comparison.Comparison.of("cell-*")
