"""A tagged corpus as flat arrays: reading and checking it."""

import csv
import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from nerlib import sample

ID, WORD, POS, TAG = "Sentence #", "Word", "POS", "Tag"
GMB_SHA256 = "83257dd94ed59596809dc9f5b28f1f035c9d925d5a647f266db43a2f098e8f1a"  # of the Kaggle corpus, unzipped
TAG_FORM = re.compile(r"O|[BI]-\S+")


@dataclass(frozen=True)
class Corpus:
    """Sentences one after the other: sentence i is words[offsets[i]:offsets[i + 1]]."""

    words: np.ndarray  # (words,) str objects
    pos: np.ndarray | None  # (words,) str objects
    tags: np.ndarray  # (words,) str objects, valid IOB2
    offsets: np.ndarray  # (sentences + 1,) int64
    source: str
    sha256: str  # of the file's bytes, unzipped
    notes: tuple[str, ...] = ()  # what reading changed, for the reader of the run

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Words of each sentence, (sentences,)."""
        return np.diff(self.offsets)

    @property
    def types(self) -> list[str]:
        """Entity types in alphabetical order."""
        return sorted({tag[2:] for tag in pd.unique(self.tags) if tag != "O"})

    @property
    def labels(self) -> list[str]:
        """Class order everywhere: O, then B- and I- of each type in alphabetical order."""
        return ["O", *(f"{prefix}-{kind}" for kind in self.types for prefix in "BI")]

    def sentence(self, index: int) -> list[str]:
        """The words of one sentence."""
        return list(self.words[self.offsets[index]:self.offsets[index + 1]])

    def texts(self, column: str = "words") -> list[str]:
        """Each sentence's words (or "tags") in one string, separated by blanks."""
        values = getattr(self, column)
        return [" ".join(values[a:b]) for a, b in zip(self.offsets, self.offsets[1:], strict=False)]

    def table(self, sentences: np.ndarray | None = None) -> pd.DataFrame:
        """One row a word of the given sentences (default: all): sentence, position, word, pos, gold."""
        sentences = np.arange(len(self)) if sentences is None else np.asarray(sentences)
        rows, counts = self.rows(sentences), self.lengths[sentences]
        return pd.DataFrame({
            "sentence": np.repeat(sentences, counts).astype(np.int32),
            "position": (rows - np.repeat(self.offsets[sentences], counts)).astype(np.int32),
            "word": self.words[rows], "pos": None if self.pos is None else self.pos[rows], "gold": self.tags[rows]})

    def rows(self, sentences: np.ndarray) -> np.ndarray:
        """Positions in the flat arrays of all words of the given sentences, in their order."""
        return ranges(self.offsets[sentences], self.lengths[sentences])

    def keep_types(self, wanted: str) -> "Corpus":
        """The same corpus with every tag whose type is not in `wanted` turned into O. Raises ValueError."""
        types = self.types if wanted == "all" else wanted.split()
        if missing := sorted(set(types) - set(self.types)):
            raise ValueError(f"{self.source}: has no entity type {', '.join(missing)}; it has {', '.join(self.types)}")
        out = pd.Series(self.tags).isin([f"{p}-{t}" for t in set(self.types) - set(types) for p in "BI"]).to_numpy()
        if not out.any():
            return self
        mentions = int(np.char.startswith(self.tags[out].astype(str), "B-").sum())
        note = f"{mentions:,} mentions ({out.sum():,} words) of other entity types became O"
        return replace(self, tags=np.where(out, "O", self.tags), notes=(*self.notes, note))


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[start, start + 1, … start + count - 1] of every pair, one after the other."""
    return np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def read(source: str | Path) -> Corpus:
    """Read 'sample', a CSV in the Kaggle GMB layout (plain or zipped) or a CoNLL column file.

    CSV: columns `Sentence #` (on a sentence's first row, or on all), Word, POS (optional), Tag. Columns: word, POS
    (if there are three or more), …, tag, separated by tabs or blanks; an empty line ends a sentence. Text is UTF-8 or
    else Windows-1252. IOB1 tags become IOB2. Raises FileNotFoundError, or ValueError with file, line and value.
    """
    name = str(source)
    if name == "sample":
        data, member = sample.gmb_csv(), "sample.csv"
    else:
        if not Path(source).is_file():
            raise FileNotFoundError(f"{name}: no such file; the parameter data takes 'sample' or the path of a corpus")
        data, member = Path(source).read_bytes(), name
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                if len(members := [m for m in archive.namelist() if not m.endswith("/")]) != 1:
                    raise ValueError(f"{name}: holds {len(members)} files; expected one corpus file: {members[:5]}")
                data, member = archive.read(members[0]), members[0]
    encoding = _encoding(data, name)
    is_csv = member.lower().endswith(".csv") or ID.encode() in data.split(b"\n", 1)[0]
    columns = _read_csv(data, encoding, name) if is_csv else _read_columns(data.decode(encoding), name)
    lines, starts = columns["line"], columns["start"]
    if not len(lines):
        raise ValueError(f"{name}: holds no words")
    for column in (WORD, POS, TAG):  # what distinct values there are says whether a million have to be searched
        for value in pd.unique(columns[column]) if column in columns else ():
            if not value.strip():
                raise ValueError(f"{name}, line {lines[(columns[column] == value).argmax()]}: empty {column}")
            if column == TAG and not TAG_FORM.fullmatch(value):
                raise ValueError(f"{name}, line {lines[(columns[TAG] == value).argmax()]}: tag {value!r} is not in BIO form "
                                 "(O, B-type or I-type)")
    tags, notes = _to_iob2(columns[TAG], starts, lines, name)
    return Corpus(words=columns[WORD], pos=columns.get(POS), tags=tags,
                  offsets=np.append(np.flatnonzero(starts), len(lines)), source=name,
                  sha256=hashlib.sha256(data).hexdigest(), notes=notes)


def _encoding(data: bytes, name: str) -> str:
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            data.decode(encoding)
            return encoding
        except UnicodeDecodeError as error:
            position = error.start
    line = data[:position].count(b"\n") + 1
    raise ValueError(f"{name}, line {line}: byte 0x{data[position]:02x} is neither UTF-8 nor Windows-1252; "
                     "save the file as UTF-8")


def _read_csv(data: bytes, encoding: str, name: str) -> dict[str, np.ndarray]:
    """Word, POS if there is one, Tag, start (of a sentence), line (in the file), each (words,)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would drop what stands in surplus columns
            # "None", "NA" and "null" are words here, not missing values; blank lines count, for messages. As objects, equal
            # words are mostly one string in memory.
            frame = pd.read_csv(io.BytesIO(data), encoding=encoding, dtype=object, na_filter=False, index_col=False,
                                skip_blank_lines=False)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{name}: not a CSV file: it is empty") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        rows = csv.reader(io.StringIO(data.decode(encoding), newline=""))
        width = len(next(rows))
        line = next((rows.line_num for row in rows if len(row) > width), None)
        raise ValueError(f"{name}, line {line}: more columns than the {width} of the first line" if line
                         else f"{name}: not a CSV file: {error}") from None
    if missing := [column for column in (ID, WORD, TAG) if column not in frame]:
        raise ValueError(f"{name}, line 1: no column {', '.join(missing)}; found {', '.join(frame.columns)}; "
                         f"needed are {ID}, {WORD}, {POS} (optional), {TAG}")
    columns = {column: frame[column].to_numpy(object) for column in (ID, WORD, POS, TAG) if column in frame}
    columns["line"] = np.arange(2, len(frame) + 2)
    blank = (columns[ID] == "") & (columns[WORD] == "") & (columns[TAG] == "")
    columns = {column: values[~blank] for column, values in columns.items()}
    ids = columns.pop(ID)
    if len(ids) and not ids[0].strip():
        raise ValueError(f"{name}, line {columns['line'][0]}: the first row has no {ID}")
    filled = ids != ""
    previous = np.append([""], ids[filled][:-1])
    starts = np.zeros(len(ids), bool)
    starts[filled] = ids[filled] != previous  # ids may stand on the first row of a sentence only, or on each
    return columns | {"start": starts}


def _read_columns(text: str, name: str) -> dict[str, np.ndarray]:
    """As `_read_csv`."""
    rows: list[tuple] = []
    start, width = True, 0
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r\n")
        if not line.strip() or line.startswith("-DOCSTART-"):
            start = True
            continue
        # A no-break space, at which split() without an argument would cut, is part of a word.
        cells = line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]
        width = width or len(cells)
        if len(cells) != width or width < 2:
            raise ValueError(f"{name}, line {number}: {len(cells)} column(s) where {max(width, 2)} were expected "
                             f"(word, POS, …, tag): {line[:80]!r}")
        rows.append((cells[0], cells[1], cells[-1], start, number))
        start = False
    table = np.array(rows, object).reshape(-1, 5)
    columns = {WORD: table[:, 0], POS: table[:, 1], TAG: table[:, 2], "start": table[:, 3].astype(bool),
               "line": table[:, 4].astype(int)}
    return columns if width > 2 else {column: values for column, values in columns.items() if column != POS}


def _to_iob2(tags: np.ndarray, starts: np.ndarray, lines: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """IOB1 (the original CoNLL-2003 files) opens a mention by I- unless one of the same type ends just before it."""
    which, distinct = pd.factorize(tags)
    prefix, kind = np.array([t[0] for t in distinct])[which], np.array([t[2:] for t in distinct], object)[which]
    continues = np.append([False], kind[1:] == kind[:-1]) & ~starts & (kind != "")
    opens = (prefix == "I") & ~continues
    if not opens.any():
        return tags, ()
    if (split := (prefix == "B") & ~continues).any():
        raise ValueError(
            f"{name}, line {lines[opens.argmax()]}: tag {tags[opens.argmax()]!r} continues nothing, so this is not IOB2; "
            f"nor is it IOB1, since {tags[split.argmax()]!r} in line {lines[split.argmax()]} follows no mention of its type")
    return np.where(opens, "B-" + kind, tags), (f"tags were IOB1: {opens.sum():,} I- became B- (IOB2)",)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """Corpora one after the other as one; without POS where one of them has none."""
    with_pos = all(c.pos is not None for c in corpora)
    return Corpus(
        words=np.concatenate([c.words for c in corpora]),
        pos=np.concatenate([c.pos for c in corpora]) if with_pos else None,
        tags=np.concatenate([c.tags for c in corpora]),
        offsets=np.append([0], np.cumsum(np.concatenate([c.lengths for c in corpora]))),
        source=" + ".join(c.source for c in corpora),
        sha256=hashlib.sha256("".join(c.sha256 for c in corpora).encode()).hexdigest(),
        notes=tuple(f"{c.source}: {note}" for c in corpora for note in c.notes))
