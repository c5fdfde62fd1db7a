"""One process at a time at work on a run's folder; a second one is refused and told who is there."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

HELD = "NERLIB_HELD"  # in the environment of a runner's notebooks: the lock that it holds for them
_taken: TextIO | None = None


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[int]:
    """Hold the folder's lock; yields its file descriptor. Raises BlockingIOError where another process holds it, or waits.

    The lock ends with the last process that has the descriptor, so a child that outlives its killed parent keeps it.
    """
    with _hold(folder, wait) as file:
        try:
            yield file.fileno()
        finally:
            file.truncate(0)


def take(folder: Path) -> None:
    """Hold the folder's lock until `release`, or until this process ends: for a notebook, which its runner may hold it for.
    Raises BlockingIOError where another process holds it."""
    global _taken
    path = str(folder / ".lock")
    if os.environ.get(HELD) != path and (_taken is None or _taken.name != path):
        release()
        _taken = _hold(folder)


def release() -> None:
    """Let go of what this process took."""
    global _taken
    if _taken:
        _taken.truncate(0)
        _taken.close()
        _taken = None


def _hold(folder: Path, wait: bool = False) -> TextIO:
    file = (folder / ".lock").open("a+")  # which leaves what its holder wrote
    try:
        for patience in range(5):  # the index of runs holds it for a moment, to see whether someone else does
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if patience == 4:
                    raise
                time.sleep(0.05)
    except BlockingIOError:
        file.seek(0)
        there = f"reports/{folder.name}: {file.read() or 'another process'}, or what it started, is at work here; "
        if not wait:
            file.close()
            raise BlockingIOError(f"{there}wait until it has finished or end it (a notebook: restart its kernel), or choose "
                                  "another name") from None
        print(f"{there}waiting until it has finished", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC).isoformat(timespec='seconds')}")
    file.flush()
    return file
