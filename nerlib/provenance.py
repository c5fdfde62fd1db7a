"""What made a run: commit, package versions, hardware."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn",
            "seqeval", "papermill", "matplotlib")  # pyarrow and safetensors write files that are compared byte by byte


def git_state() -> dict[str, Any]:
    """The commit that is checked out and whether the tree is as committed, but for parameter files, since the parameters are
    recorded themselves, and results; None where git cannot say."""
    here, others = Path(__file__).parent, (":(top,exclude)params", ":(top,exclude)reports")
    try:
        commit, changes = (subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
                           for words in (("rev-parse", "HEAD"), ("status", "--porcelain", ":/", *others)))
    except (FileNotFoundError, subprocess.CalledProcessError):
        return {"commit": None, "clean": None}
    return {"commit": commit, "clean": not changes}


def committed(file: Path, commit: str | None) -> str | None:
    """What a file held in a commit; None where git does not know."""
    try:
        return subprocess.run(["git", "show", f"{commit}:./{file.name}"], cwd=file.parent, capture_output=True, text=True,
                              encoding="utf-8", check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def commit(git: Mapping[str, Any]) -> str:
    """What a run's record says of its commit, in short."""
    changed = {True: "", False: " with uncommitted changes", None: ""}[git["clean"]]
    return (git["commit"] or "unknown")[:10] + changed


def provenance() -> dict[str, Any]:
    """What made a run: commit, package versions, hardware."""
    import torch  # here, since readers of finished runs need no torch

    return {
        "git": git_state(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": {
            "cpu": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(), "cores": os.cpu_count(),
            "threads": torch.get_num_threads(), "system": platform.system(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}}
