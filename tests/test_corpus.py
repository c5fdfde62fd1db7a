"""Reading corpora: the Kaggle GMB file against the csv module and its published facts, and small files against hand counts."""

import codecs
import csv
import hashlib
import io
import random
import re
import struct
import tracemalloc
import zipfile
from collections import Counter, defaultdict

import numpy as np
import pytest

from nerlib.corpus import join, read

HEADER = "Sentence #,Word,POS,Tag\n"
SMALL = HEADER + ("Sentence: 1,Ann,NNP,B-per\n,Lee,NNP,I-per\n,left,VBD,O\n"
                  "Sentence: 2,Rain,NN,O\n"
                  "Sentence: 3,In,IN,O\n,Oslo,NNP,B-geo\n")
WORDS = [["Ann", "Lee", "left"], ["Rain"], ["In", "Oslo"]]
NOTED = "Sentence #,Word,POS,Tag,Note\n" + (  # SMALL with a column whose fields hold line breaks
    'Sentence: 1,Ann,NNP,B-per,"first\nsecond\n\n"\n,Lee,NNP,I-per,\n,left,VBD,O,"a ""mark"""\n'
    'Sentence: 2,Rain,NN,O,"on\ntwo lines"\n\nSentence: 3,In,IN,O,see\n,Oslo,NNP,B-geo,\n')


@pytest.fixture
def make(tmp_path):
    """Write text (as UTF-8) or bytes to a file and return its path."""
    def write(content, name="corpus.csv"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name
    return write


def sentences(corpus):
    return [corpus.sentence(i) for i in range(len(corpus))]


def content(corpus):
    """All that two files with the same content share."""
    pos = None if corpus.pos is None else corpus.pos.tolist()
    return corpus.words.tolist(), pos, corpus.tags.tolist(), corpus.offsets.tolist()


# The real corpus.

@pytest.fixture(scope="module")
def rows(gmb):
    """The real file as the csv module reads it: (id, word, POS, tag)."""
    data = gmb.read_bytes()
    if zipfile.is_zipfile(gmb):
        with zipfile.ZipFile(gmb) as archive:
            data = archive.read(archive.namelist()[0])
    return list(csv.reader(io.StringIO(data.decode("cp1252"), newline="")))[1:]


@pytest.mark.corpus
def test_gmb_is_the_known_file(gmb_corpus):
    assert gmb_corpus.sha256 == "83257dd94ed59596809dc9f5b28f1f035c9d925d5a647f266db43a2f098e8f1a"
    assert gmb_corpus.notes == ()


@pytest.mark.corpus
def test_gmb_read_by_the_csv_module_is_the_same(gmb_corpus, rows):
    starts = [i for i, row in enumerate(rows) if row[0]]
    assert gmb_corpus.words.tolist() == [row[1] for row in rows]
    assert gmb_corpus.pos.tolist() == [row[2] for row in rows]
    assert gmb_corpus.tags.tolist() == [row[3] for row in rows]
    assert gmb_corpus.offsets.tolist() == [*starts, len(rows)]


@pytest.mark.corpus
def test_gmb_has_the_published_counts(gmb_corpus):
    lengths = gmb_corpus.lengths
    assert (len(gmb_corpus.words), len(gmb_corpus)) == (1_048_575, 47_959)
    assert len(set(gmb_corpus.pos)) == 42 and len(set(gmb_corpus.tags)) == len(gmb_corpus.labels) == 17
    assert len(set(gmb_corpus.words)) == 35_178
    assert (gmb_corpus.words == "None").sum() == 10
    assert sum(not word.isascii() for word in gmb_corpus.words) == 53
    assert (lengths.min(), np.median(lengths), round(lengths.mean(), 2), np.percentile(lengths, 99), lengths.max()) == (
        1, 21, 21.86, 43, 104)
    assert Counter(tag[2:] for tag in gmb_corpus.tags if tag[0] == "B") == {
        "geo": 37644, "tim": 20333, "org": 20143, "per": 16990, "gpe": 15870, "art": 402, "eve": 308, "nat": 201}


@pytest.mark.corpus
def test_gmb_has_the_published_repeats_and_contradictions(gmb_corpus):
    tags_of = defaultdict(set)
    for text, tags in zip(gmb_corpus.texts(), gmb_corpus.texts("tags"), strict=True):
        tags_of[text].add(tags)
    assert len(gmb_corpus) - len(tags_of) == 384
    assert sum(len(tags) > 1 for tags in tags_of.values()) == 35


@pytest.mark.corpus
def test_five_types_of_gmb_keep_their_counts(gmb_corpus):
    kept = gmb_corpus.keep_types("geo gpe org per tim")
    assert kept.labels == ["O", "B-geo", "I-geo", "B-gpe", "I-gpe", "B-org", "I-org", "B-per", "I-per", "B-tim", "I-tim"]
    assert sum(tag[0] == "B" for tag in kept.tags) == 37644 + 20333 + 20143 + 16990 + 15870
    words = sum(tag[2:] in ("art", "eve", "nat") for tag in gmb_corpus.tags)
    assert kept.notes == (f"911 mentions ({words:,} words) of other entity types became O",)  # 402 + 308 + 201


# The GMB layout.

def test_ids_on_first_rows_or_on_every_row_give_the_same_sentences(make):
    every, number = "", 0
    for line in SMALL.splitlines()[1:]:
        number += line.startswith("Sentence")
        every += f"Sentence: {number},{line.split(',', 1)[1]}\n"
    sparse, full = read(make(SMALL, "a.csv")), read(make(HEADER + every, "b.csv"))
    assert sentences(sparse) == sentences(full) == WORDS
    assert content(sparse) == content(full)
    assert sparse.sha256 != full.sha256


def test_an_id_that_returns_later_begins_a_sentence(make):
    corpus = read(make(HEADER + "Sentence: 1,a,NN,O\nSentence: 2,b,NN,O\nSentence: 1,c,NN,O\n"))
    assert sentences(corpus) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "NULL", "N/A", "NaN", "n/a", "-", "1e5", "007", "True"])
def test_words_that_look_like_missing_values_or_numbers_stay_words(make, word):
    corpus = read(make(HEADER + f"Sentence: 1,He,PRP,O\n,{word},NN,B-per\n,sees,VBZ,O\n"))
    assert corpus.words.tolist() == ["He", word, "sees"]


def test_columns_of_numbers_alone_stay_text(make):
    corpus = read(make(HEADER + "1,007,1,O\n1,1e5,2,O\n2,3.10,3,O\n"))
    assert content(corpus) == (["007", "1e5", "3.10"], ["1", "2", "3"], ["O"] * 3, [0, 2, 3])


def test_a_csv_may_lack_the_pos_column(make):
    assert content(read(make("Sentence #,Word,Tag\n1,Oslo,B-geo\n"))) == (["Oslo"], None, ["B-geo"], [0, 1])


def test_quoted_commas_and_quotes_are_words(make):
    corpus = read(make(HEADER + 'Sentence: 1,",",",",O\n,"""","``",O\n,\'\',\'\',O\n'))
    assert corpus.words.tolist() == [",", '"', "''"] and corpus.pos.tolist() == [",", "``", "''"]


def test_blank_lines_in_a_csv_are_no_words(make):
    assert content(read(make(SMALL.replace("Sentence: 2", "\n\nSentence: 2") + "\n\n"))) == content(read(make(SMALL, "b.csv")))


def test_other_columns_and_another_order_do_not_matter(make):
    corpus = read(make("Tag,Lemma,Word,Sentence #,POS\nB-geo,oslo,Oslo,1,NNP\nO,be,is,,VBZ\n"))
    assert content(corpus) == (["Oslo", "is"], ["NNP", "VBZ"], ["B-geo", "O"], [0, 2])


TABS = SMALL.replace(",", "\t")
QUOTED = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in SMALL.splitlines())
SPACED = "Ann NNP B-per\nLee NNP I-per\nleft VBD O\n\nRain NN O\n\nIn IN O\nOslo NNP B-geo"
SAME = {  # what holds the same as SMALL
    "separated by semicolons": (SMALL.replace(",", ";"), "a.csv"),
    "separated by tabs": (TABS, "a.csv"),
    "separated by tabs, called txt": (TABS, "a.txt"),
    "Excel's Unicode text": (TABS.replace("\n", "\r\n").encode("utf-16"), "a.txt"),
    "UTF-16 of the other byte order": (codecs.BOM_UTF16_BE + SMALL.encode("utf-16-be"), "a.csv"),
    "ends of lines of an old Mac": (SMALL.replace("\n", "\r"), "a.csv"),
    "ends of lines made Windows's twice": (SMALL.replace("\n", "\r\r\n"), "a.csv"),
    "no end of the last line": (SMALL.rstrip(), "a.csv"),
    "all fields quoted": (QUOTED, "a.csv"),
    "a byte order mark before a quotation mark": (QUOTED.encode("utf-8-sig"), "a.csv"),
    "blanks for an empty id": (SMALL.replace("\n,", "\n  ,"), "a.csv"),
    "rows of separators": (SMALL.replace("Sentence: 3", ",,,\nSentence: 3") + ",,,\n , ,,\n", "a.csv"),
    "lines of blanks": (SMALL.replace("Sentence: 3", "   \nSentence: 3") + "  \n", "a.csv"),
    "an empty last column": (SMALL.replace("\n", ",\n"), "a.csv"),
    "two columns that nobody needs": (SMALL.replace("\n", ",x,x\n").replace("Tag,x,x", "Tag,Note,Note"), "a.csv"),
    "fields with line breaks": (NOTED, "a.csv"),
    "ids out of order": (SMALL.replace("Sentence: 1", "Sentence: 9"), "a.csv"),
    "columns, ends of lines of an old Mac": (SPACED.replace("\n", "\r"), "a.txt"),
    "columns, ends of lines made Windows's twice": (SPACED.replace("\n", "\r\r\n"), "a.txt"),
    "columns in UTF-16": (SPACED.encode("utf-16"), "a.txt"),
}


@pytest.mark.parametrize("what", SAME)
def test_odd_files_with_the_same_content_are_read_alike(make, what):
    corpus = read(make(*SAME[what]))
    assert content(corpus) == ([word for words in WORDS for word in words], ["NNP", "NNP", "VBD", "NN", "IN", "NNP"],
                               ["B-per", "I-per", "O", "O", "O", "B-geo"], [0, 3, 4, 6])
    assert corpus.notes == ()


ODD_WORDS = {
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467", "combining mark": "Zoe\u0308", "the same composed": "Zo\xeb",
    "right to left": "\u0645\u062f\u064a\u0646\u0629", "direction mark": "\u202eabc\u202c", "zero width": "\u200b",
    "control character": "\x07", "other line ends": "a\x85b\u2028c\x0bd\x1ce", "soft hyphen": "a\xadb", "hash": "#",
    "a formula": "=1+1", "backslash": "\\n", "10,000 characters": "Donaudampfschiff" * 625, "the mark of documents": "-X-",
    "beyond the basic plane": "\U00020000"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name, before, separator", [("a.csv", HEADER, ","), ("a.txt", "", "\t")])
@pytest.mark.parametrize("what", ODD_WORDS)
def test_odd_words_are_neither_changed_nor_cut(make, what, name, before, separator, encoding):
    line = separator.join([ODD_WORDS[what], "NN", "B-per"])
    corpus = read(make((before + ("1," if before else "") + line).encode(encoding), name))
    assert content(corpus) == ([ODD_WORDS[what]], ["NN"], ["B-per"], [0, 1])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_only_the_first_byte_order_mark_is_none_of_the_text(make, encoding):
    assert read(make("\ufeffx\tO\n".encode(encoding), "a.txt")).words.tolist() == ["\ufeffx"]


def test_sentences_may_have_5000_words_or_one(make):
    long = "".join(f",w{i},NN,O\n" for i in range(1, 5000))
    corpus = read(make(HEADER + "1,w0,NN,O\n" + long + "2,end,NN,B-per\n"))
    assert corpus.lengths.tolist() == [5000, 1] and corpus.sentence(0) == [f"w{i}" for i in range(5000)]


@pytest.mark.parametrize("kind", ["\u57ce\u5e02", "Zo\xeb", "x" * 300, "a-b", "B-x", "O", "_", "<b>&", "1", "\U0001f600", "I"])
def test_odd_names_of_types_are_kept(make, kind):
    corpus = read(make(f"a\tB-{kind}\nb\tI-{kind}\nc\tO\n", "a.txt"))
    assert corpus.tags.tolist() == [f"B-{kind}", f"I-{kind}", "O"] and corpus.types == [kind]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("name, text", [
    ("a.csv", HEADER + "Sentence: 1,Zoë,NNP,B-per\n,‘s,POS,O\n,…,:,O\n"),
    ("a.conll", "Zoë NNP B-per\n‘s POS O\n… : O\n"),
])
def test_utf8_with_or_without_bom_utf16_and_windows_1252_are_read(make, encoding, name, text):
    corpus = read(make(text.encode(encoding), name))
    assert content(corpus) == (["Zoë", "‘s", "…"], ["NNP", "POS", ":"], ["B-per", "O", "O"], [0, 3])


@pytest.mark.parametrize("name, text", [("corpus.csv", SMALL), ("corpus.txt", "Oslo\tB-geo\nis\tO\n")])
def test_a_zipped_file_is_the_same_as_the_plain_one(make, tmp_path, name, text):
    plain = read(make(text, name))
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", "")
        archive.writestr(f"folder/{name}", text)
    zipped = read(tmp_path / "corpus.zip")
    assert content(zipped) == content(plain)
    assert zipped.sha256 == plain.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("names", [[], ["a.csv", "b.csv"]])
def test_a_zip_without_exactly_one_file_is_refused(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        for name in names:
            archive.writestr(name, SMALL)
    with pytest.raises(ValueError, match=f"corpus.zip: holds {len(names)} files"):
        read(tmp_path / "corpus.zip")


def zipped(tmp_path, text=SMALL, method=zipfile.ZIP_DEFLATED):
    """A zip of one corpus: its path, and its bytes to be changed."""
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w", method) as archive:
        archive.writestr("corpus.csv", text)
    return tmp_path / "corpus.zip", bytearray((tmp_path / "corpus.zip").read_bytes())


def patched(data, local, central, form, value):
    """The zip with a field of its member overwritten in both headers, `local` and `central` bytes after their beginnings."""
    for at in local, data.index(b"PK\x01\x02") + central:
        struct.pack_into(form, data, at, value)
    return data


@pytest.mark.parametrize("damage, message", [
    (lambda data: data[:len(data) // 2], "a zip that lacks its end"),
    (lambda data: patched(data, 6, 8, "<H", 1), "cannot be unzipped: .*encrypted"),
    (lambda data: patched(data, 8, 10, "<H", 99), "cannot be unzipped: .*compression method"),
    (lambda data: patched(data, 14, 16, "<I", 1), "cannot be unzipped: Bad CRC-32"),
    (lambda data: data[:60] + b"?" * 20 + data[80:], "cannot be unzipped"),
    (lambda data: patched(data, 22, 24, "<I", 2**30 + 1), "'corpus.csv' would have 1,073,741,825 bytes unzipped; a corpus"),
])
def test_a_zip_that_is_damaged_encrypted_or_absurdly_large_is_refused(tmp_path, damage, message):
    path, data = zipped(tmp_path)
    path.write_bytes(damage(data))
    with pytest.raises(ValueError, match=f"corpus.zip: {message}"):
        read(path)


def test_no_more_is_unzipped_than_the_zip_says_that_there_is(tmp_path):
    path, data = zipped(tmp_path, bytes(50_000_000))
    path.write_bytes(patched(data, 22, 24, "<I", 1000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="corpus.zip: cannot be unzipped"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_what_a_mac_adds_to_a_zip_is_no_corpus(tmp_path):
    path, _ = zipped(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._corpus.csv", b"\0\5\x16\7")
    assert sentences(read(path)) == WORDS


# CoNLL columns.

COLUMNS = [[("Ann", "NNP", "B-NP", "B-per"), ("left", "VBD", "B-VP", "O")], [("Oslo", "NNP", "B-NP", "B-geo")]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", "  "])
@pytest.mark.parametrize("columns", [(0, 3), (0, 1, 3), (0, 1, 2, 3)], ids=["2", "3", "4"])
def test_columns_of_every_width_and_separator(make, columns, separator, end):
    text = (end * 2).join(end.join(separator.join(row[c] for c in columns) for row in rows) for rows in COLUMNS)
    pos = ["NNP", "VBD", "NNP"] if len(columns) > 2 else None
    many_blank_lines = end * 3 + text.replace(end * 2, end * 4) + end * 3
    a_blank_in_a_blank_line = text.replace(end * 2, f"{end} {end}")
    for variant in text, text + end, many_blank_lines, a_blank_in_a_blank_line:
        assert content(read(make(variant, "a.conll"))) == (["Ann", "left", "Oslo"], pos, ["B-per", "O", "B-geo"], [0, 2, 3])


@pytest.mark.parametrize("docstart", ["-DOCSTART- -X- -X- O", "-DOCSTART-\t-X-\tO", "-DOCSTART- O"])
def test_docstart_lines_end_a_sentence_and_are_no_words(make, docstart):
    text = f"{docstart}\n\nAnn NNP O\n{docstart}\nOslo NNP B-geo\n\n{docstart}\n"
    assert sentences(read(make(text, "a.txt"))) == [["Ann"], ["Oslo"]]


@pytest.mark.parametrize("line", ["New York\tNNP\tB-geo", "New\xa0York\tNNP\tB-geo", "New\xa0York NNP B-geo"])
def test_words_may_hold_blanks_between_tabs_and_no_break_spaces_anywhere(make, line):
    assert content(read(make(line, "a.txt"))) == ([re.split("\t| ?NNP", line)[0]], ["NNP"], ["B-geo"], [0, 1])


# Tags.

def iob(mentions, first):
    """Tags of a sentence given as (type or "", words) pairs; IOB1 where `first` is "I", IOB2 where it is "B"."""
    tags, previous = [], ""
    for kind, words in mentions:
        opening = "B" if first == "B" or kind == previous else "I"
        tags += [f"{opening}-{kind}"] + [f"I-{kind}"] * (words - 1) if kind else ["O"] * words
        previous = kind
    return tags


def columns(sentences):
    return "\n\n".join("\n".join(f"w\t{tag}" for tag in tags) for tags in sentences)


def test_iob1_becomes_iob2_by_hand(make):
    one = [["I-per", "I-per", "O", "I-geo", "B-geo", "I-geo", "I-org"], ["I-org"], ["O", "I-org"]]
    two = ["B-per", "I-per", "O", "B-geo", "B-geo", "I-geo", "B-org", "B-org", "O", "B-org"]
    corpus = read(make(columns(one), "a.txt"))
    assert corpus.tags.tolist() == two
    assert corpus.notes == ("tags were IOB1: 5 I- became B- (IOB2)",)


@pytest.mark.parametrize("seed", range(5))
def test_random_mentions_read_from_iob1_and_from_iob2_are_the_same(make, seed):
    rng = random.Random(seed)
    drawn = [[(rng.choice(["", "per", "geo", "x-y"]), rng.randint(1, 3)) for _ in range(rng.randint(1, 6))] for _ in range(200)]
    one, two = [[iob(mentions, first) for mentions in drawn] for first in "IB"]
    assert one != two
    expected = [tag for tags in two for tag in tags]
    assert read(make(columns(one), "1.txt")).tags.tolist() == expected
    from_iob2 = read(make(columns(two), "2.txt"))
    assert from_iob2.tags.tolist() == expected and from_iob2.notes == ()


IOBES = [["B-per", "I-per", "E-per", "O", "S-geo", "S-geo", "B-org", "E-org"], ["S-per"], ["B-a", "E-a", "B-a", "E-a"]]


@pytest.mark.parametrize("scheme, last, single", [("IOBES", "E", "S"), ("BILOU", "L", "U")])
def test_iobes_and_bilou_become_iob2_by_hand(make, scheme, last, single):
    corpus = read(make(columns(IOBES).replace("E-", f"{last}-").replace("S-", f"{single}-"), "a.txt"))
    assert corpus.tags.tolist() == ["B-per", "I-per", "I-per", "O", "B-geo", "B-geo", "B-org", "I-org", "B-per",
                                    "B-a", "I-a", "B-a", "I-a"]
    assert corpus.notes == (f"tags were {scheme}: 4 {last}- became I-, 3 {single}- became B- (IOB2)",)
    assert corpus.types == ["a", "geo", "org", "per"]


@pytest.mark.parametrize("scheme, tags, bad", [
    ("IOBES", [["O", "E-per"]], (2, "E-per")),
    ("IOBES", [["B-per", "O", "S-geo"]], (1, "B-per")),
    ("IOBES", [["S-geo", "B-per"], ["E-per"]], (2, "B-per")),
    ("IOBES", [["S-geo"], ["E-geo"]], (3, "E-geo")),
    ("IOBES", [["B-per", "I-per", "S-per"]], (2, "I-per")),
    ("IOBES", [["B-per", "E-geo"]], (1, "B-per")),
    ("IOBES", [["S-per", "I-per", "E-per"]], (2, "I-per")),
    ("IOBES", [["B-per", "E-per", "E-per"]], (3, "E-per")),
    ("IOBES", [["I-per", "E-per"]], (1, "I-per")),
    ("IOBES", [["B-per", "E-per", "B-per", "L-per"]], (4, "L-per")),
    ("BILOU", [["U-per", "O", "S-per"]], (3, "S-per")),
    ("BILOU", [["L-per"]], (1, "L-per")),
    ("BILOU", [["B-per", "I-per", "O", "U-per"]], (2, "I-per")),
])
def test_broken_or_mixed_iobes_and_bilou_are_refused_with_the_line(make, scheme, tags, bad):
    with pytest.raises(ValueError) as error:
        read(make(columns(tags), "a.txt"))
    assert f"a.txt, line {bad[0]}: tag '{bad[1]}' cannot stand there in {scheme}" in str(error.value)


def test_iob1_in_a_csv_becomes_iob2_too(make):
    corpus = read(make(SMALL.replace("B-", "I-")))
    assert corpus.tags.tolist() == ["B-per", "I-per", "O", "O", "O", "B-geo"]


@pytest.mark.parametrize("tags, bad", [
    ([["B-per", "O", "I-geo"]], (3, "I-geo")),
    ([["B-per"], ["I-per"]], (3, "I-per")),
    ([["O", "I-per", "I-geo", "B-org"]], (2, "I-per")),
])
def test_tags_neither_iob1_nor_iob2_are_refused_with_the_line(make, tags, bad):
    with pytest.raises(ValueError) as error:
        read(make(columns(tags), "a.txt"))
    assert f"a.txt, line {bad[0]}: tag '{bad[1]}'" in str(error.value)


# What cannot be read: file, line and value are named.

BAD_CSV = [
    ("", "not a CSV file"),
    (HEADER, "holds no words"),
    ("Word,POS,Tag\na,NN,O\n", "line 1: no column Sentence #; found Word, POS, Tag"),
    ("Sentence #,Word,POS\n1,a,NN\n", "line 1: no column Tag"),
    ("Sentence #,POS,Tag\n1,NN,O\n", "line 1: no column Word"),
    ("Sentence #|Word|POS|Tag\n1|a|NN|O\n", "line 1: no column Sentence #, Word, Tag; found Sentence #|Word|POS|Tag"),
    ("sentence #,word,pos,tag\n1,a,NN,O\n", "line 1: no column Sentence #, Word, Tag; found sentence #, word, pos, tag"),
    ("Sentence #,Word,POS,Word,Tag\n1,a,NN,b,O\n", "line 1: 2 columns are called Word"),
    ("Sentence #,Word,POS,Tag,Tag,Tag\n1,a,NN,O,O,O\n", "line 1: 3 columns are called Tag"),
    (" \n\n", "not a CSV file"),
    (HEADER + "1;a;NN;O\n", "line 2: empty Word"),
    (HEADER + " ,a,NN,O\nSentence: 1,b,NN,O\n", "line 2: the first row has no Sentence #"),
    (SMALL + ",,NN,\n", "line 8: empty Word"),
    (SMALL.replace("Sentence #,", "Note,Sentence #,") + "no words,,,,\n", "line 8: empty Word"),
    (HEADER + ",a,NN,O\nSentence: 1,b,NN,O\n", "line 2: the first row has no Sentence #"),
    (SMALL.replace("Rain", ""), "line 5: empty Word"),
    (SMALL.replace("Rain", " "), "line 5: empty Word"),
    (SMALL.replace("VBD", ""), "line 4: empty POS"),
    (SMALL.replace("B-geo", ""), "line 7: empty Tag"),
    (SMALL.replace(",B-geo", ""), "line 7: empty Tag"),
    (SMALL.replace("B-geo", "geo"), "line 7: tag 'geo'"),
    (SMALL.replace("B-geo", "S-geo"), "line 7: tag 'S-geo'"),
    (SMALL.replace("B-geo", "B-"), "line 7: tag 'B-'"),
    (SMALL.replace("B-geo", "b-geo"), "line 7: tag 'b-geo'"),
    (SMALL.replace("I-per", "I-geo"), "line 3: tag 'I-geo'"),
    (SMALL.encode().replace(b"Rain", b"R\x81in"), "line 5: byte 0x81"),
    (SMALL.encode("cp1252").replace(b"Rain", b"R\xe9in\x9d"), "line 5: byte 0x9d"),
    (SMALL.replace("NN,O", "NN,O,O,O"), "line 5"),
    (SMALL.replace("B-per", "B-per,O"), "line 2"),
    (HEADER + "Sentence: 1,a,NN,O,O\n,b,NN,O,O\n", "line 2"),  # pandas would take the first column for an index
    (HEADER + "Sentence: 1,a,NN,O\n\n\n,b,NN,geo\n", "line 5: tag 'geo'"),  # blank lines count
    *((SMALL.replace("B-geo", tag), f"line 7: tag {tag!r}") for tag in (
        "o", "b-per", "B", "I", "B_geo", "M-geo", "B-a b", "B-a\xa0b", "B--geo", "B-geo-", " B-geo", "B-MISSED", "B-SPURIOUS")),
    (SMALL.replace("Rain", "Ra\0in"), "line 5: a NUL byte"),
    (SMALL.encode("utf-16-le"), "line 1: a NUL byte; this is no text, or UTF-16 without a byte order mark"),
    (SMALL.encode("utf-32"), "line 1: a NUL byte"),
    (SMALL.encode("utf-16")[:-1], "line 7: byte 0x0a is not UTF-16"),
    (SMALL.replace("Ann", "Zoë").encode().replace(b"Rain", b"R\xe9in"), "line 5: byte 0xe9 is not UTF-8;"),  # not ZoÃ«
    (SMALL.encode("utf-8-sig").replace(b"Rain", b"R\xe9in"), "line 5: byte 0xe9 is not UTF-8;"),
    (SMALL.replace("\n", "\r").encode().replace(b"Rain", b"R\x81in"), "line 5: byte 0x81"),
    (SMALL.replace("\n", "\r").replace("B-geo", "geo"), "line 7: tag 'geo'"),
    (SMALL.replace("Rain", '"Rain'), "line 5: unbalanced quotation marks: 'Sentence: 2,\"Rain,NN,O'"),  # nothing closes it
    (SMALL.replace("Rain", '"') + "Sentence: 4,a,NN,O\n" * 9999, "line 5: unbalanced quotation marks"),
    (SMALL.replace("Ann", '"Ann" B'), "line 2: unbalanced quotation marks"),  # pandas would drop them
    (SMALL.replace("Ann", '"').replace("In", '"'), "line 2: Word goes on in the next line: ',NNP,B-per"),
    (SMALL.replace("NNP", '"NNP').replace("VBD", 'VBD"'), "line 2: unbalanced quotation marks"),
    (SMALL.replace("Sentence: 2", '"Sentence:\n2"'), "line 5: Sentence # goes on in the next line"),
    (NOTED.replace("B-geo", "geo"), "line 12: tag 'geo'"),
    (NOTED.replace("I-per", "I-geo"), "line 6: tag 'I-geo'"),
    (NOTED.replace("\n", "\r\n").replace("B-geo", "geo"), "line 12: tag 'geo'"),
    (NOTED.replace("B-geo", "B-geo,O,O"), "line 12: more columns than the 5 of the first line"),
    (NOTED.replace("IN,O", '"IN,O'), "line 11: unbalanced quotation marks: 'Sentence: 3,In,\"IN,O,see'"),
]


@pytest.mark.parametrize("text, message", BAD_CSV, ids=[message for _, message in BAD_CSV])
def test_a_bad_csv_is_refused_with_file_line_and_value(make, text, message):
    with pytest.raises(ValueError) as error:
        read(make(text, "bad.csv"))
    assert "bad.csv" in str(error.value) and message in str(error.value)


BAD_COLUMNS = [
    ("", "holds no words"),
    ("\n\n \n", "holds no words"),
    ("-DOCSTART- -X- O\n", "holds no words"),
    ("Ann NNP O\nleft VBD\n", "line 2: 2 column(s) where 3 were expected (word, POS, …, tag): 'left VBD'"),
    ("Ann NNP O\n\nleft at VBD O\n", "line 3: 4 column(s) where 3"),
    ("Ann\nleft\n", "line 1: 1 column(s) where 2"),
    ("Ann\tO\n\tO\n", "line 2: empty Word"),
    ("Ann\tNNP\tO\nleft\t\tO\n", "line 2: empty POS"),
    ("Ann\tO\n\nleft\t\n", "line 3: empty Tag; a word outside of mentions has the tag O"),
    ("Ann\tO\n{}\n", "line 2: 1 column(s) where 2 were expected (word, POS, …, tag): '{}'; a file of JSON lines has a name in"),
    ('[{"text": "Ann", "spans": []}]\nx\n', "line 2: 1 column(s) where 4"),
    ("-DOCSTART- O\n\nAnn PER\n", "line 3: tag 'PER' is not in BIO form (O, B-type on a mention's first word"),
    (b"Ann O\n\x81 O\n", "line 2: byte 0x81"),
    ("Ann O\rleft\r", "line 2: 1 column(s)"),
    ("Ann O\nle\0ft O\n", "line 2: a NUL byte"),
    ("Ann,NNP,B-per\n", "line 1: 1 column(s) where 2"),
    ("word pos tag\nAnn NNP O\n", "line 1: tag 'tag'"),
    ("Ann\tO\n\xa0\tO\n", "line 2: empty Word"),
    ("Ann o\n", "line 1: tag 'o'"),
    ("Ann B-per\nin o\n", "line 2: tag 'o'"),
    ("B-per NNP Ann\n", "line 1: tag 'Ann'"),
    ("Zoë O\n".encode("utf-16")[:-1], "line 1: byte 0x0a is not UTF-16"),
]


@pytest.mark.parametrize("text, message", BAD_COLUMNS, ids=[message for _, message in BAD_COLUMNS])
def test_bad_columns_are_refused_with_file_line_and_value(make, text, message):
    with pytest.raises(ValueError) as error:
        read(make(text, "bad.conll"))
    assert "bad.conll" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("name, said", [("gone.csv", "no such file"), (".", "this is a folder")])
def test_a_missing_file_is_named(tmp_path, name, said):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / name}: {said}")):
        read(tmp_path / name)


# The corpus in hand.

MIXED = HEADER + ("Sentence: 1,Ann,NNP,B-per\n,Lee,NNP,I-per\n,in,IN,O\n,May,NNP,B-tim\n"
                  "Sentence: 2,Oslo,NNP,B-geo\n,Times,NNP,B-org\n,Ann,NNP,B-per\n")


@pytest.mark.parametrize("wanted, tags, note", [
    ("all", "B-per I-per O B-tim B-geo B-org B-per", None),
    ("tim per geo org", "B-per I-per O B-tim B-geo B-org B-per", None),
    ("per", "B-per I-per O O O O B-per", "3 mentions (3 words) of other"),
    ("geo  tim", "O O O B-tim B-geo O O", "3 mentions (4 words) of other"),
])
def test_types_not_asked_for_become_o_and_are_counted(make, wanted, tags, note):
    corpus = read(make(MIXED))
    kept = corpus.keep_types(wanted)
    assert " ".join(kept.tags) == tags
    assert len(kept.notes) == (note is not None) and (note is None or note in kept.notes[0])
    assert kept.sha256 == corpus.sha256 and " ".join(corpus.tags).count("B-") == 5  # the original is untouched


@pytest.mark.parametrize("wanted, missing", [("per geopolitical", "geopolitical"), ("PER", "PER"), ("per all", "all")])
def test_an_unknown_type_is_refused_with_the_known_ones(make, wanted, missing):
    with pytest.raises(ValueError, match=f"corpus.csv: has no entity type {missing}; it has geo, org, per, tim"):
        read(make(MIXED)).keep_types(wanted)


def test_labels_are_o_then_the_types_in_alphabetical_order(make):
    assert read(make(MIXED)).labels == ["O", "B-geo", "I-geo", "B-org", "I-org", "B-per", "I-per", "B-tim", "I-tim"]


def test_sentences_lengths_and_texts_by_hand(make):
    corpus = read(make(SMALL))
    assert len(corpus) == 3 and corpus.lengths.tolist() == [3, 1, 2]
    assert corpus.texts() == ["Ann Lee left", "Rain", "In Oslo"]
    assert corpus.texts("tags") == ["B-per I-per O", "O", "O B-geo"]


def test_the_table_has_one_row_a_word_of_the_sentences_in_their_order(make):
    corpus = read(make(SMALL))
    assert corpus.table(np.array([2, 0])).to_numpy().tolist() == [
        [2, 0, "In", "IN", "O"], [2, 1, "Oslo", "NNP", "B-geo"],
        [0, 0, "Ann", "NNP", "B-per"], [0, 1, "Lee", "NNP", "I-per"], [0, 2, "left", "VBD", "O"]]
    assert corpus.table()["word"].tolist() == [word for words in WORDS for word in words]
    assert list(corpus.table()) == ["sentence", "position", "word", "pos", "gold"]


def test_joined_corpora_follow_one_another(make):
    one, two = read(make(SMALL, "one.csv")), read(make("Bo I-per\n\nsat O\n", "two.txt"))
    both = join([one, two])
    assert sentences(both) == WORDS + [["Bo"], ["sat"]]
    assert both.tags.tolist() == [*one.tags, "B-per", "O"]
    assert both.pos is None and one.pos is not None  # one part has none
    assert join([one, one]).pos.tolist() == [*one.pos, *one.pos]
    assert both.sha256 not in (one.sha256, two.sha256, join([two, one]).sha256)
    assert [note.split(": ")[0] for note in both.notes] == [two.source]
