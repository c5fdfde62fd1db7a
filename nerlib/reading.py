"""Corpus files as columns of text: unzipping, encodings, CSV in the Kaggle layout, CoNLL columns, JSON lines."""

import codecs
import csv
import io
import json
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nerlib.words import positions, split

ID, WORD, POS, TAG = "Sentence #", "Word", "POS", "Tag"
LARGEST = 2**30  # bytes of an unzipped corpus, seventy times the Kaggle one
QUOTES = 'a quotation mark opens a field that another closes; the mark itself is written """"'
csv.field_size_limit(LARGEST)  # by default 128 KiB, which an open quotation mark exceeds before it is known as such


def load(path: Path) -> tuple[bytes, str]:
    """The corpus file's bytes, unzipped, and its name. Raises FileNotFoundError, or ValueError for a zip that does not hold
    one readable file of at most LARGEST bytes."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'this is a folder' if path.is_dir() else 'no such file'}")
    if not zipfile.is_zipfile(path):
        data = path.read_bytes()
        if data.startswith(b"PK\x03\x04"):
            raise ValueError(f"{path}: a zip that lacks its end; copy or download it again")
        return data, path.name
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            if len(members) != 1:
                raise ValueError(f"{path}: holds {len(members)} files; expected one corpus file: "
                                 f"{[member.filename for member in members[:5]]}")
            member = members[0]
            if member.file_size > LARGEST:
                raise ValueError(f"{path}: {member.filename!r} would have {member.file_size:,} bytes unzipped; "
                                 f"a corpus has at most {LARGEST:,}")
            with archive.open(member) as file:  # read() alone would unzip more than the archive says that there is
                return file.read(member.file_size), member.filename
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot be unzipped: {error}") from None


def decode(data: bytes, name: str) -> str:
    """The text, with "\\n" at the end of each line: what a byte order mark says, else UTF-8 or else Windows-1252.

    Raises ValueError for bytes of no such encoding, for a mixture of both, and for NUL bytes.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        allowed = ["UTF-16"]
    else:
        allowed = ["UTF-8"] if data.startswith(codecs.BOM_UTF8) or _damaged(data) else ["UTF-8", "Windows-1252"]
    for encoding in allowed:
        try:
            text = _lines(data.decode("utf-8-sig" if encoding == "UTF-8" else encoding))
            break
        except UnicodeDecodeError as failed:
            error = failed
    else:
        data = error.object  # without the byte order mark, if there was one
        line = _lines(data[:error.start].decode(error.encoding, "replace")).count("\n") + 1
        raise ValueError(f"{name}, line {line}: byte 0x{data[error.start]:02x} is not {' nor '.join(allowed)}; "
                         "save the file as UTF-8")
    if (nul := text.find("\0")) >= 0:
        line = text.count("\n", 0, nul) + 1
        raise ValueError(f"{name}, line {line}: a NUL byte; this is no text, or UTF-16 without a byte order mark: save it as "
                         "UTF-8")
    return text


def _damaged(data: bytes) -> bool:
    """Whether it is UTF-8 but for a few bytes: in Windows-1252, which nearly all bytes can be, hardly any make up UTF-8."""
    text = data.decode("utf-8", "replace")
    return len(text) - len(text.encode("ascii", "ignore")) >= 2 * text.count("\ufffd") > 0


def _lines(text: str) -> str:
    """The text with "\\n" for every kind of line end."""
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def is_csv(text: str, name: str) -> bool:
    """Whether a file is in the Kaggle layout, as its name or its first line says."""
    return name.lower().endswith(".csv") or ID in text.split("\n", 1)[0]


def read_csv(text: str, name: str) -> dict[str, np.ndarray]:
    """Word, POS if there is one, Tag, start (of a sentence), line (in the file), each (words,)."""
    if not text.strip():
        raise ValueError(f"{name}: not a CSV file: it is empty")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=lambda mark: len({ID, WORD, POS, TAG} & set(next(csv.reader([first], delimiter=mark), []))))
    header = next(csv.reader([first], delimiter=separator), [])
    if missing := [column for column in (ID, WORD, TAG) if column not in header]:
        raise ValueError(f"{name}, line 1: no column {', '.join(missing)}; found {', '.join(header)}; needed are {ID}, {WORD}, "
                         f"{POS} (optional), {TAG}, separated by commas, semicolons or tabs")
    if twice := [column for column in (ID, WORD, POS, TAG) if header.count(column) > 1]:
        raise ValueError(f"{name}, line 1: {header.count(twice[0])} columns are called {twice[0]}; rename all but one")
    lines = _rows(text, separator, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would drop what stands in surplus columns
            # "None", "NA" and "null" are words here, not missing values; blank lines count, for messages. As objects, equal
            # words are mostly one string in memory.
            frame = pd.read_csv(io.StringIO(text), sep=separator, dtype=object, na_filter=False, index_col=False,
                                skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        rows = csv.reader(io.StringIO(text), delimiter=separator)
        row = next((row for row, cells in enumerate(rows) if len(cells) > len(header)), None)
        raise ValueError(f"{name}: not a CSV file: {error}" if row is None else
                         f"{name}, line {lines[row]}: more columns than the {len(header)} of the first line") from None
    columns = {column: frame[column].to_numpy(object) for column in (ID, WORD, POS, TAG) if column in frame}
    columns["line"] = lines[1:len(frame) + 1]
    blank = _blank(columns[WORD])
    blank[blank] = frame[blank].map(str.strip).eq("").all(axis=1)
    columns = {column: values[~blank] for column, values in columns.items()}
    if lines[-1] > len(lines):  # some fields go on in the next line
        for column in (ID, WORD, *columns.keys() & {POS}, TAG):
            for value, line in zip(columns[column], columns["line"], strict=True):
                if "\n" in value:
                    raise ValueError(f"{name}, line {line}: {column} goes on in the next line: {value[:40]!r}; {QUOTES}")
    ids = columns.pop(ID)
    filled = ~_blank(ids)
    if len(ids) and not filled[0]:
        raise ValueError(f"{name}, line {columns['line'][0]}: the first row has no {ID}")
    previous = np.append([""], ids[filled][:-1])
    starts = np.zeros(len(ids), bool)
    starts[filled] = ids[filled] != previous  # ids may stand on the first row of a sentence only, or on each
    return columns | {"start": starts}


def _blank(values: np.ndarray) -> np.ndarray:
    """Which values are empty or hold blanks only, (values,) bool."""
    blank = np.zeros(len(values), bool)
    for value in pd.unique(values):
        if not value.strip():
            blank |= values == value
    return blank


def _rows(text: str, separator: str, name: str) -> np.ndarray:
    """The line on which each row of a CSV begins. Raises ValueError for quotation marks that pandas would drop."""
    lines = text.split("\n")
    quoted = [i for i, line in enumerate(lines) if '"' in line]
    spanning = any(lines[i].count('"') % 2 for i in quoted)  # perhaps a field goes on in the next line: all have to be read
    read = np.arange(len(lines)) if spanning else np.array(quoted, int)
    rows, begins = csv.reader((lines[i] for i in read), delimiter=separator, strict=True), [0]
    try:
        for _ in rows:
            begins.append(rows.line_num)
    except csv.Error:
        line = read[begins[-1]]
        raise ValueError(f"{name}, line {line + 1}: unbalanced quotation marks: {lines[line][:80]!r}; {QUOTES}") from None
    return np.array(begins[:-1]) + 1 if spanning else np.arange(len(lines)) + 1


def read_columns(text: str, name: str) -> dict[str, np.ndarray]:
    """As `read_csv`."""
    rows: list[tuple] = []
    start, width = True, 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("-DOCSTART-"):
            start = True
            continue
        # A no-break space, at which split() without an argument would cut, is part of a word.
        cells = line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]
        width = width or len(cells)
        if len(cells) != width or width < 2:
            raise ValueError(f"{name}, line {number}: {len(cells)} column(s) where {max(width, 2)} were expected "
                             f"(word, POS, …, tag): {line[:80]!r}" + "; a file of JSON lines has a name in .jsonl" * (
                                 line.lstrip()[0] in "{["))
        rows.append((cells[0], cells[1], cells[-1], start, number))
        start = False
    table = np.array(rows, object).reshape(-1, 5)
    columns = {WORD: table[:, 0], POS: table[:, 1], TAG: table[:, 2], "start": table[:, 3].astype(bool),
               "line": table[:, 4].astype(int)}
    return columns if width > 2 else {column: values for column, values in columns.items() if column != POS}


def read_spans(text: str, name: str) -> dict[str, np.ndarray]:
    """As `read_csv`, from JSON lines: {"text": …} or {"words": […], "pos": […]}, and "spans": [{"start", "end", "label"}] in
    characters of the text, or of the words joined by blanks. A text is split into sentences and words."""
    rows: list[tuple] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows += _row_of_spans(parsed(line), number)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
    table = np.array(rows, object).reshape(-1, 5)
    if (with_pos := table[:, 1] != None).any() and not with_pos.all():  # noqa: E711  (elementwise)
        raise ValueError(f"{name}, line {table[(~with_pos).argmax(), 4]}: no POS tags, which line "
                         f"{table[with_pos.argmax(), 4]} has")
    return {WORD: table[:, 0], **({POS: table[:, 1]} if with_pos.any() else {}), TAG: table[:, 2],
            "start": table[:, 3].astype(bool), "line": table[:, 4].astype(int)}


def parsed(line: str) -> Any:
    """What a line of JSON says. Raises ValueError, RecursionError for brackets within brackets."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1} of {line[:60]!r}") from None
    json.dumps(content, ensure_ascii=False).encode()  # JSON can write half characters, which are no text
    return content


def _row_of_spans(content: Any, number: int) -> list[tuple]:
    """Word, POS or None, tag, start, line of each word of a line. Raises ValueError."""
    known = isinstance(content, dict) and isinstance(content.get("spans"), list)
    source, words, pos = (content.get("text"), content.get("words"), content.get("pos")) if known else (None, None, None)
    listed = [value for value in (words, pos) if value is not None]
    if (isinstance(source, str) == isinstance(words, list) or (pos is not None and words is None) or not all(
            isinstance(value, list) and all(isinstance(item, str) for item in value) for value in listed)):
        raise ValueError('not {"text": …, "spans": […]}, nor {"words": […], "pos": […] (optional), "spans": […]}: '
                         f"{json.dumps(content, ensure_ascii=False)[:80]}")
    if pos is not None and len(pos) != len(words):
        raise ValueError(f"{len(pos)} POS tags for {len(words)} words")
    source, sentences = (" ".join(words), [positions(words)]) if words is not None else (source, split(source))
    places = [place for sentence in sentences for place in sentence]
    if not places:
        raise ValueError("no words")
    begins, ends = ({place[side]: word for word, place in enumerate(places)} for side in (0, 1))
    starts = set(np.cumsum([0, *map(len, sentences)]).tolist())
    tags = ["O"] * len(places)
    for span in content["spans"]:
        said = f"span {json.dumps(span, ensure_ascii=False)[:80]}"
        start, end, label = (span.get(name) for name in ("start", "end", "label")) if isinstance(span, dict) else (None,) * 3
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(label, str)):
            raise ValueError(f"{said}: needs start, end and label: two whole numbers and a text")
        if not 0 <= start < end <= len(source):
            raise ValueError(f"{said}: there is no such place among the {len(source)} characters of {source[:40]!r}")
        if start not in begins or end not in ends:
            raise ValueError(f"{said}: {source[start:end]!r} does not begin and end where words do")
        first, last = begins[start], ends[end]
        if any(tag != "O" for tag in tags[first:last + 1]) or starts & set(range(first + 1, last + 1)):
            raise ValueError(f"{said}: overlaps another one, or is in two sentences")
        tags[first:last + 1] = [f"B-{label}", *[f"I-{label}"] * (last - first)]
    return [(source[a:b], pos and pos[word], tags[word], word in starts, number) for word, (a, b) in enumerate(places)]
