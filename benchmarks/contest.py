"""Contenders in turns: each in a process of its own, one at work at a time, so that the machine's noise meets them all."""

import multiprocessing
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers.utils import logging

# Called once, untimed, in the contender's own process; returns the work, which returns how many units it did.
Contender = Callable[..., Callable[[], float]]


def contest(contenders: Mapping[str, Contender], arguments: tuple = (), repeats: int = 5, label: str = "",
            warm_up: bool = True) -> dict[str, Any]:
    """Let each do its work `repeats` times, in turns, after once to warm up.

    Returns for each: median_seconds, median_rate (units a second), rates (all of them), peak_memory_mib of its process and
    how much of that came after its imports. Raises RuntimeError with the contender's own traceback if one fails.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, contender in contenders.items():
            pipes[name], other = context.Pipe()
            processes.append(context.Process(target=_serve, args=(other, contender, arguments, warm_up), daemon=True))
            processes[-1].start()
            other.close()
            _receive(pipes[name], name)  # set up and warmed up: one after the other, too
        rounds = tqdm([name for _ in range(repeats) for name in contenders], desc=label, file=sys.stderr)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for name in rounds:
            pipes[name].send("work")
            times[name].append(_receive(pipes[name], name))
        result = {}
        for name, measured in times.items():
            pipes[name].send("memory")
            before, peak = _receive(pipes[name], name)
            rates = [units / seconds for seconds, units in measured]
            result[name] = {"median_seconds": statistics.median(seconds for seconds, _ in measured),
                            "median_rate": statistics.median(rates), "rates": rates, "peak_memory_mib": round(peak),
                            "peak_memory_above_imports_mib": round(peak - before)}
        return result
    finally:
        for pipe in pipes.values():
            pipe.close()  # at which the processes end by themselves
        for process in processes:
            process.join(30)
            process.terminate()


def ours_vs(result: Mapping[str, Any], ours: str) -> dict[str, float]:
    """How many times as fast as each of the others ours is, by their median rates."""
    return {name: round(result[ours]["median_rate"] / row["median_rate"], 2) for name, row in result.items() if name != ours}


def _receive(pipe: Connection, name: str) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        raise RuntimeError(f"{name}: its process ended without a word; out of memory?") from None
    if isinstance(answer, str):
        raise RuntimeError(f"{name} failed:\n{answer}")
    return answer


def _serve(pipe: Connection, contender: Contender, arguments: tuple, warm_up: bool) -> None:
    logging.set_verbosity_error()  # transformers would tell of the new classifier in every process
    try:
        before = _peak_memory()
        work = contender(*arguments)
        if warm_up:
            work()
        pipe.send(True)
        while True:
            if pipe.recv() == "memory":
                pipe.send((before, _peak_memory()))
                continue
            start = time.perf_counter()
            units = work()
            pipe.send((time.perf_counter() - start, units))
    except EOFError:
        return  # the contest is over
    except Exception:
        pipe.send(traceback.format_exc())


def _peak_memory() -> float:
    """MiB that this process held at most."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held before this process began
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
