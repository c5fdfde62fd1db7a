"""Finished runs as they may be committed, without a word of the corpus; with the corpus, they can be compared again.

    python -m nerlib.archive keep 'pos-shape-*'                     finished runs → reports/results/runs/*.zip
    python -m nerlib.archive restore 'pos-shape-*' -p data PATH     and back, with the words of that corpus

Kept are record, metrics, history and the tags of both decoders: what notebook 05 reads. Not kept are model, scores and the
model's own POS tags, so that notebook 04 needs the training again.
"""

import argparse
import fnmatch
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from nerlib import runs
from nerlib.comparison import named
from nerlib.corpus import Corpus
from nerlib.params import Params
from nerlib.results import RESULTS, record
from nerlib.split import Split, load
from nerlib.sweep import CORPUS

ARCHIVES = RESULTS / "runs"
TAGS, COPIED = ["argmax", "viterbi"], ["metrics.json", "history.csv"]  # columns of predictions.parquet; files
LOADING = CORPUS | {"pos", "entity_types", "max_sentences", "split", "test_size", "validation_size", "split_seed"}


def keep(run: runs.Run, archives: Path) -> Path:
    """Write a finished run's archive into the folder `archives`; of the same run, always the same bytes."""
    content = {"run.json": json.dumps(record(run), indent=1, ensure_ascii=False).encode(),
               **{name: (run.path / name).read_bytes() for name in COPIED},
               "tags.parquet": run.predictions[TAGS].to_parquet(index=False, compression="zstd")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # ZipInfo: no time of its own
    runs.write_atomically(archives / f"{run.path.name}.zip", buffer.getvalue())
    return archives / f"{run.path.name}.zip"


def restore(path: Path, given: Mapping[str, str]) -> Path:
    """Make reports/<run>/ from its archive and the corpus that `given` names (data, and data_validation and data_test if the
    run had them). Raises ValueError where the corpus is not the run's or the archive is broken, FileExistsError where the
    folder holds a finished run."""
    folder = runs.place(path.stem)
    if (folder / "run.json").exists():
        raise FileExistsError(f"reports/{path.stem} holds a finished run: it is left as it is")
    try:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in ["run.json", "tags.parquet", *COPIED]}
        made, tags = json.loads(content["run.json"]), pd.read_parquet(io.BytesIO(content["tags.parquet"]))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not the archive of a run: {error}") from None
    params = Params(**made["parameters"] | given)
    data, split = _load(params.model_dump_json(include=LOADING))
    if any(getattr(split, name) != made["split"][name] for name in ("fingerprint", "training_fingerprint")):
        raise ValueError(f"{path}: not from the sentences of {data.source}: the run's corpus had the SHA-256 "
                         f"{made['corpus']['sha256'][:12]}…, this one has {data.sha256[:12]}…")
    parts = ["validation"] * (len(split.validation) > 0) + ["test"] * params.score_test
    rows = pd.concat([data.table(split.parts()[part]).assign(part=part) for part in parts], ignore_index=True)
    if len(rows) != len(tags):
        raise ValueError(f"{path}: holds tags of {len(tags):,} words, and its sentences have {len(rows):,}")
    runs.write_atomically(folder / "predictions.parquet",
                          rows.assign(predicted=tags[params.decoder], **tags).to_parquet(index=False))
    runs.write_atomically(folder / "training.parquet", data.table(split.training).to_parquet(index=False))
    for name in [*COPIED, "run.json"]:  # run.json last: with it, a run is finished
        runs.write_atomically(folder / name, content[name])
    return folder


@lru_cache(maxsize=1)  # most runs of a sweep have the same
def _load(settings: str) -> tuple[Corpus, Split]:
    return load(Params.model_validate_json(settings), runs.ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.archive", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "restore"])
    parser.add_argument("runs", nargs="+", help="names or patterns with *")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "PATH"), dest="given",
                        help=f"where the corpus lies: {', '.join(sorted(CORPUS))}")
    arguments = parser.parse_args()
    try:
        if arguments.what == "keep":
            return print(*[keep(run, ARCHIVES) for run in named(" ".join(arguments.runs)).values()], sep="\n")
        if unknown := [name for name, _ in arguments.given if name not in CORPUS]:
            raise ValueError(f"-p {unknown[0]}: only {', '.join(sorted(CORPUS))} can be given; all else is as the run had it")
        for pattern in arguments.runs:
            found = sorted(path for path in ARCHIVES.glob("*.zip") if fnmatch.fnmatch(path.stem, pattern))
            if not found:
                raise FileNotFoundError(f"no archive is called {pattern!r} in {ARCHIVES}")
            for path in found:
                try:
                    print(restore(path, dict(arguments.given)))
                except FileExistsError as error:
                    print(error)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
