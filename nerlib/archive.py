"""Finished runs as they may be committed, without a word of the corpus; with the corpus, they can be compared again.

    python -m nerlib.archive keep 'pos-shape-*'                     finished runs → reports/results/runs/*.zip
    python -m nerlib.archive restore 'pos-shape-*' -p data PATH     and back, with the words of that corpus

Kept are record, metrics, history and the tags of both decoders: what notebook 05 reads. Not kept are model, scores, pages and
the model's own POS tags, so that notebook 04 needs the training again.
"""

import argparse
import fnmatch
import io
import json
import shutil
import sys
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from nerlib import runs
from nerlib.comparison import named
from nerlib.corpus import Corpus
from nerlib.params import Params, once
from nerlib.reading import LARGEST
from nerlib.results import RESULTS, record
from nerlib.results_page import write_page
from nerlib.split import READ, Split, load
from nerlib.sweep import CORPUS

ARCHIVES = RESULTS / "runs"
TAGS, COPIED = ["argmax", "viterbi"], ["metrics.json", "history.csv"]  # columns of predictions.parquet; files
FINGERPRINTS = ["fingerprint", "training_fingerprint"]


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
    """Make reports/<run>/, which must not be there, from the run's archive and the corpus that `given` names (data, and
    data_validation and data_test if the run had them). Raises FileNotFoundError where there is none, ValueError where it is not
    the run's or the archive is broken."""
    content, (parameters, sha256, fingerprints), tags = _read(path)
    params = Params.create(parameters | given, str(path))
    if params.run != path.stem:
        raise ValueError(f"{path}: is the archive of the run {params.run!r}; give it that name")
    data, split = _load(params.model_dump_json(include=READ))
    if [getattr(split, name) for name in FINGERPRINTS] != fingerprints:
        raise ValueError(f"{path}: " + (
            f"{data.source} is the run's corpus, but this version of the code splits it otherwise" if data.sha256 == sha256 else
            f"not from the sentences of {data.source}: the run's corpus had the SHA-256 {sha256:.12}…, this one has "
            f"{data.sha256:.12}…"))
    parts = ["validation"] * (len(split.validation) > 0) + ["test"] * params.score_test
    rows = pd.concat([data.table(split.parts()[part]).assign(part=part) for part in parts], ignore_index=True)
    if len(rows) != len(tags):
        raise ValueError(f"{path}: holds tags of {len(tags):,} words, and its sentences have {len(rows):,}")
    folder = runs.place(path.stem)
    unfinished = folder.with_name(f".{path.stem}.restored")
    try:
        for name, table in (("predictions", rows.assign(predicted=tags[params.decoder], **tags)),
                            ("training", data.table(split.training))):
            runs.write_atomically(unfinished / f"{name}.parquet", table.to_parquet(index=False))
        for name in ["run.json", *COPIED]:
            runs.write_atomically(unfinished / name, content[name])
        unfinished.rename(folder)  # whole or not at all
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _read(path: Path) -> tuple[dict[str, bytes], tuple[dict[str, Any], str, list[str]], pd.DataFrame]:
    """An archive's files, what they say of where the run comes from, and its tags. Raises ValueError."""
    try:
        content = {}
        with zipfile.ZipFile(path) as archive:
            for member in map(archive.getinfo, ["run.json", "tags.parquet", *COPIED]):
                if member.file_size > LARGEST:
                    raise ValueError(f"{member.filename} would have {member.file_size:,} bytes")
                with archive.open(member) as file:  # read() alone would unzip more than the archive says that there is
                    content[member.filename] = file.read(member.file_size)
        made, labels = json.loads(content["run.json"]), json.loads(content["metrics.json"])["tags"]
        origin = dict(made["parameters"]), str(made["corpus"]["sha256"]), [made["split"][name] for name in FINGERPRINTS]
        tags = pd.read_parquet(io.BytesIO(content["tags.parquet"]), columns=TAGS).reset_index(drop=True)
        if foreign := set(tags.to_numpy().ravel()) - set(labels):
            raise ValueError(f"{min(map(str, foreign))!r} is none of the run's tags")
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the archive of a run: {error}") from None
    return content, origin, tags


@lru_cache(maxsize=1)  # most runs of a sweep have the same
def _load(settings: str) -> tuple[Corpus, Split]:
    return load(Params.model_validate({**json.loads(settings), "pos": "none"}), runs.ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.archive", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "restore"])
    parser.add_argument("runs", nargs="+", help="names or patterns with *")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "PATH"), dest="given",
                        help=f"where the corpus of restored runs lies: {', '.join(sorted(CORPUS))}")
    arguments = parser.parse_args()
    try:
        given = once(arguments.given)
        if other := [name for name in given if name not in CORPUS or arguments.what == "keep"]:
            raise ValueError(f"-p {other[0]}: a run is kept and restored as it was made; restore takes "
                             f"{', '.join(sorted(CORPUS))}, since they may lie elsewhere")
        if arguments.what == "keep":
            print(*[keep(run, ARCHIVES) for run in named(" ".join(arguments.runs)).values()], write_page(RESULTS), sep="\n")
            return
        for pattern in arguments.runs:
            found = sorted(path for path in ARCHIVES.glob("*.zip") if fnmatch.fnmatch(path.stem, pattern))
            if not found:
                raise FileNotFoundError(f"no archive is called {pattern!r} in {ARCHIVES}")
            for path in found:
                there = runs.place(path.stem).exists()
                print(f"reports/{path.stem} is there already, and left as it is" if there else restore(path, given))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
