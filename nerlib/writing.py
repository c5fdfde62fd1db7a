"""Corpora as files: written so that `corpus.read` reads them back, and that others can; fetched."""

import csv
import hashlib
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from nerlib import reading
from nerlib.corpus import GMB_SHA256, Corpus
from nerlib.reading import ID, POS, TAG, WORD
from nerlib.runs import write_atomically
from nerlib.words import positions

GMB = "abhinavwalia95/entity-annotated-corpus", "ner_dataset.csv"  # on Kaggle: data set and file


def write(data: Corpus, path: Path) -> None:
    """Write a corpus in the layout that the file's name asks for: .csv (Kaggle's), .conll (columns, separated by tabs) or
    .jsonl (words and spans). Raises ValueError for another name, and for a word that the layout cannot hold."""
    layouts = {".csv": _csv, ".conll": _columns, ".jsonl": _spans}
    if path.suffix.lower() not in layouts:
        raise ValueError(f"{path}: its name must end in {', '.join(layouts)}")
    forbidden = {".csv": r"[\r\n\0]", ".conll": r"[\t\r\n\0]|^-DOCSTART-", ".jsonl": "$^"}[path.suffix.lower()]
    columns = [data.words, data.tags, *([] if data.pos is None else [data.pos])]
    if bad := next((value for column in columns for value in set(column) if re.search(forbidden, value)), None):
        raise ValueError(f"{path}: {bad[:40]!r} cannot stand in a {path.suffix} file; write .jsonl")
    text = layouts[path.suffix.lower()](data)
    write_atomically(path, "\ufeff" + text if text.startswith("\ufeff") else text)  # a mark of byte order that is none


def fetch(folder: Path) -> Path:
    """Download the Kaggle corpus to `folder`/ner_dataset.csv.zip, the name that the parameter files have, unless it is there.
    Raises OSError with what to do by hand."""
    path = folder / f"{GMB[1]}.zip"
    if path.exists():
        if hashlib.sha256(reading.load(path)[0]).hexdigest() == GMB_SHA256:
            return path
        raise OSError(f"{path} holds something else; move it away first")
    by_hand = f"; by hand: get {GMB[1]} of kaggle.com/datasets/{GMB[0]} and put it at {path}, zipped or not"
    try:
        import kagglehub  # of the extra "kaggle"
    except ImportError:
        raise OSError(f"this needs kagglehub: pip install kagglehub{by_hand}") from None
    with tempfile.TemporaryDirectory() as fresh:
        try:
            data = Path(kagglehub.dataset_download(GMB[0], path=GMB[1], output_dir=fresh)).read_bytes()
        except Exception as error:  # kagglehub's own kinds of error have nothing else in common
            why = f"{type(error).__name__}: {str(error).strip()[:300]}"
            raise OSError(f"{GMB[0]} could not be downloaded ({why}){by_hand}") from None
    if (sha256 := hashlib.sha256(data).hexdigest()) != GMB_SHA256:
        raise OSError(f"{GMB[0]}: what came has the sha256 {sha256}, not {GMB_SHA256}; nothing was written{by_hand}")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(GMB[1], data)
    write_atomically(path, file.getvalue())
    return path


def _rows(data: Corpus) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """Each sentence's number and rows: word, POS if there is one, tag."""
    columns = [data.words, *([] if data.pos is None else [data.pos]), data.tags]
    for i, (a, b) in enumerate(zip(data.offsets, data.offsets[1:], strict=False)):
        yield i, list(zip(*(column[a:b] for column in columns), strict=True))


def _csv(data: Corpus) -> str:
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([ID, WORD, *([] if data.pos is None else [POS]), TAG])
    for i, sentence in _rows(data):
        rows.writerows([f"Sentence: {i + 1}" if position == 0 else "", *row] for position, row in enumerate(sentence))
    return file.getvalue()


def _columns(data: Corpus) -> str:
    return "\n".join("".join("\t".join(row) + "\n" for row in sentence) for _, sentence in _rows(data))


def _spans(data: Corpus) -> str:
    lines = []
    for _, sentence in _rows(data):
        words, *pos, tags = zip(*sentence, strict=True)
        spans: list[dict] = []
        for (start, end), tag in zip(positions(words), tags, strict=True):
            if tag.startswith("B-"):
                spans.append({"start": start, "end": end, "label": tag[2:]})
            elif tag.startswith("I-"):
                spans[-1]["end"] = end
        lines.append({"words": words, **({"pos": pos[0]} if pos else {}), "spans": spans})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
