"""What the machine offers, and what is chosen for it: device, precision, attention kernel, caches."""

import ctypes
import os
import sys
from typing import Any

import torch

from nerlib.dataset import MULTIPLE
from nerlib.params import Params

# oneDNN makes a kernel for each shape of matrices and forgets the oldest: by default it keeps fewer than an epoch needs.
# It reads this when it makes the first one.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "20000")
# cuBLAS reads this when it is first used; without it, products on a GPU may differ from one run to the next.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpus() -> list[str]:
    """The GPUs that there are for us, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()  # no more than that variable allows
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(number) for number in range(count)]


def use_bf16(params: Params) -> bool:
    """Whether matrix products run in bfloat16: as asked, or (auto) where the hardware has instructions for it."""
    if params.precision != "auto":
        return params.precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16"))


def attention() -> str:
    """transformers' name of the attention kernel: the fused one on a GPU; on a CPU the plain one, since without dropout
    the fused one's backward pass takes three times as long there."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def repeatable() -> None:
    """Let torch choose kernels that give the same bits again on the same machine; it warns where it has none. What this
    costs on a CPU stands in reports/results/determinism.json, by `python -m benchmarks.determinism`; on a GPU nobody has
    measured it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a check for mistakes, which takes time


def keep_memory() -> None:
    """Let the C library keep what is freed, up to 2 GiB: by default it hands large buffers back to the kernel, which clears
    them again for every step. Does nothing where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: 32 MiB, the most that is allowed
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def levers(params: Params) -> dict[str, Any]:
    """What makes this training fast or slow, as it was chosen for this machine; benchmarks/ shows what each is worth.

    bf16 matrix products are two to six times as fast as fp32 ones where the hardware has instructions for them.
    Encoder dropout draws random numbers in one thread. Embeddings, if frozen, need no gradient, no clipping, no update.
    Batches of similar lengths hold half as much padding. See also `keep_memory`, MULTIPLE and the primitive cache.
    """
    return {"device": str(device()), "precision": "bf16" if use_bf16(params) else "fp32", "attention": attention(),
            "threads": torch.get_num_threads(), "encoder_dropout": params.encoder_dropout,
            "freeze_embeddings": params.freeze_embeddings, "similar_lengths": params.similar_lengths,
            "padding": params.padding, "lengths_rounded_to": MULTIPLE,
            "primitive_cache": int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"])}
