"""A tagged corpus as flat arrays: reading and checking it.

    python -m nerlib.corpus fetch                        downloads the Kaggle corpus to data/ner_dataset.csv.zip
    python -m nerlib.corpus convert mine.csv mine.jsonl  from one layout to another: .csv (Kaggle's), .conll, .jsonl
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from nerlib import reading, sample
from nerlib.reading import POS, TAG, WORD

GMB_SHA256 = "83257dd94ed59596809dc9f5b28f1f035c9d925d5a647f266db43a2f098e8f1a"  # of the Kaggle corpus, unzipped
# Strict scoring takes no notice of a - around a type; pairing calls two kinds of errors by these names.
TAG_FORM = re.compile(r"O|[BIESLU]-(?!-|MISSED$|SPURIOUS$)\S*[^\s-]")


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
    """Read 'sample', a CSV in the Kaggle GMB layout, a CoNLL column file, or JSON lines (.jsonl); each may be zipped.

    CSV: columns `Sentence #` (on a sentence's first row, or on all), Word, POS (optional), Tag, separated by commas,
    semicolons or tabs. Columns: word, POS (if there are three or more), …, tag, separated by tabs or blanks; an empty
    line ends a sentence. JSON lines: as `reading.read_spans` says. Text is UTF-8 or else Windows-1252, or
    UTF-16 with a byte order mark. IOB1, IOBES and BILOU tags become IOB2. Raises FileNotFoundError, or ValueError with file,
    line and value.
    """
    name = str(source)
    data, member = (sample.gmb_csv(), "sample.csv") if name == "sample" else reading.load(Path(source))
    text = reading.decode(data, name)
    layout = reading.read_spans if member.lower().endswith(".jsonl") else (
        reading.read_csv if reading.is_csv(text, member) else reading.read_columns)
    columns = layout(text, name)
    lines, starts = columns["line"], columns["start"]
    if not len(lines):
        raise ValueError(f"{name}: holds no words")
    for column in (WORD, POS, TAG):  # what distinct values there are says whether a million have to be searched
        for value in pd.unique(columns[column]) if column in columns else ():
            if not value.strip():
                raise ValueError(f"{name}, line {lines[(columns[column] == value).argmax()]}: empty {column}"
                                 + "; a word outside of mentions has the tag O" * (column == TAG))
            if column == TAG and not TAG_FORM.fullmatch(value):
                raise ValueError(f"{name}, line {lines[(columns[TAG] == value).argmax()]}: tag {value!r} is not in BIO form "
                                 "(O, B-type on a mention's first word, I-type on its others), IOBES or BILOU; a type has no "
                                 "blank, no - at its ends, and is not called MISSED or SPURIOUS")
    tags, notes = _to_iob2(columns[TAG], starts, lines, name)
    return Corpus(words=columns[WORD], pos=columns.get(POS), tags=tags,
                  offsets=np.append(np.flatnonzero(starts), len(lines)), source=name,
                  sha256=hashlib.sha256(data).hexdigest(), notes=notes)


def _to_iob2(tags: np.ndarray, starts: np.ndarray, lines: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """IOB1 (the original CoNLL-2003 files) opens a mention by I- unless one of the same type ends just before it."""
    which, distinct = pd.factorize(tags)
    prefix, kind = np.array([t[0] for t in distinct])[which], np.array([t[2:] for t in distinct], object)[which]
    continues = np.append([False], kind[1:] == kind[:-1]) & ~starts & (kind != "")
    if (marked := ~np.isin(prefix, list("OBI"))).any():
        return _from_iobes(tags, prefix, kind, continues, marked, lines, name)
    opens = (prefix == "I") & ~continues
    if not opens.any():
        return tags, ()
    if (split := (prefix == "B") & ~continues).any():
        raise ValueError(
            f"{name}, line {lines[opens.argmax()]}: tag {tags[opens.argmax()]!r} continues nothing, so this is not IOB2; "
            f"nor is it IOB1, since {tags[split.argmax()]!r} in line {lines[split.argmax()]} follows no mention of its type")
    return np.where(opens, "B-" + kind, tags), (f"tags were IOB1: {opens.sum():,} I- became B- (IOB2)",)


def _from_iobes(tags: np.ndarray, prefix: np.ndarray, kind: np.ndarray, continues: np.ndarray, marked: np.ndarray,
                lines: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """IOBES and BILOU also mark a mention's last word, E- or L-, and a mention of one word, S- or U-."""
    last, single = "ES" if prefix[marked.argmax()] in "ES" else "LU"
    scheme = {"E": "IOBES", "L": "BILOU"}[last]
    inside = np.isin(prefix, ["I", last])
    open_before = np.append([False], np.isin(prefix[:-1], ["B", "I"])) & continues
    closed_after = np.append(inside[1:] & open_before[1:], [False])
    wrong = marked & ~np.isin(prefix, [last, single])
    if not wrong.any():
        wrong = inside & ~open_before | np.isin(prefix, ["B", "I"]) & ~closed_after
    if wrong.any():
        raise ValueError(f"{name}, line {lines[wrong.argmax()]}: tag {tags[wrong.argmax()]!r} cannot stand there in {scheme}, "
                         f"the scheme of line {lines[marked.argmax()]}: tag {tags[marked.argmax()]!r}")
    counts = [f"{(prefix == old).sum():,} {old}- became {new}-" for old, new in ((last, "I"), (single, "B"))]
    return (np.where(prefix == last, "I-" + kind, np.where(prefix == single, "B-" + kind, tags)),
            (f"tags were {scheme}: {', '.join(counts)} (IOB2)",))


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


def main() -> None:
    from nerlib import writing  # here, since it needs what stands above
    from nerlib.runs import ROOT

    parser = argparse.ArgumentParser(prog="python -m nerlib.corpus", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download the Kaggle corpus")
    convert = commands.add_parser("convert", help="write a corpus in another layout")
    convert.add_argument("source", help="a corpus")
    convert.add_argument("target", type=Path, help="a new file; its name says the layout")
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            return print(writing.fetch(ROOT / "data"))
        if arguments.target.exists():
            raise ValueError(f"{arguments.target} exists already; choose another name")
        data = read(arguments.source)
        writing.write(data, arguments.target)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(*data.notes, f"{arguments.target}: {len(data):,} sentences, {len(data.words):,} words", sep="\n")


if __name__ == "__main__":
    main()
