"""Scores, confusion, error kinds, slices and calibration: all computed from a run's tables and nothing else.

A table has one row a word: part, sentence, position, word, gold, predicted (and more); its parts and sentences stand
one after the other. A mention is a maximal typed span, read as seqeval's default mode (conlleval's rules) reads it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from nervaluate.evaluator import Evaluator
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

DEFINITIONS = {
    "default": "seqeval 1.2.2, default mode (conlleval's rules): an I- that continues nothing opens a mention",
    "strict": "seqeval 1.2.2, mode='strict', scheme=IOB2: only a mention that opens with B- counts",
}
# The source's published table: precision, recall, F1, support on its test set (bert-base-cased, POS, 3 epochs).
SOURCE = {
    "geo": (0.85, 0.91, 0.88, 7664), "gpe": (0.95, 0.95, 0.95, 3175), "org": (0.74, 0.70, 0.72, 3913),
    "per": (0.78, 0.79, 0.78, 3389), "tim": (0.88, 0.87, 0.87, 4049), "micro avg": (0.84, 0.85, 0.85, 22190),
    "macro avg": (0.84, 0.84, 0.84, 22190), "weighted avg": (0.84, 0.85, 0.84, 22190)}
MISSED, SPURIOUS = "MISSED", "SPURIOUS"
KINDS = ["correct", "boundary", "type", "both", "missed", "spurious"]  # boundary: right type, overlapping span


def sequences(table: pd.DataFrame, column: str) -> list[list[str]]:
    """The tags in `column`, a list a sentence: what seqeval takes."""
    return [part.tolist() for part in np.split(table[column].to_numpy(object), _starts(table).nonzero()[0][1:])]


def _starts(table: pd.DataFrame) -> np.ndarray:
    """Whether a row begins a sentence, (rows,) bool."""
    return (table["position"] == 0).to_numpy()


def report(table: pd.DataFrame, predicted: str = "predicted", strict: bool = False, as_text: bool = False) -> Any:
    """seqeval's classification report of one part: output_dict, or text with 4 digits; numbers are Python's."""
    mode = {"mode": "strict", "scheme": IOB2} if strict else {}
    result = classification_report(sequences(table, "gold"), sequences(table, predicted), digits=4, zero_division=0,
                                   output_dict=not as_text, **mode)
    return result if as_text else {
        row: {k: int(v) if k == "support" else float(v) for k, v in values.items()} for row, values in result.items()}


def scores(table: pd.DataFrame, predicted: str = "predicted") -> dict[str, Any]:
    """Both modes, as DEFINITIONS names them: {"default": report, "strict": report}."""
    return {"default": report(table, predicted), "strict": report(table, predicted, strict=True)}


def metrics(table: pd.DataFrame, training: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """What metrics.json holds: scores of each part of `table`, beside them those of the lookup baseline."""
    looked_up = table.assign(predicted=lookup(training, table["word"]))
    parts = list(table["part"].unique())
    return {"tags": list(labels), "types": sorted({label[2:] for label in labels if label != "O"}), "definitions": DEFINITIONS,
            **{part: scores(table[table["part"] == part]) for part in parts},
            "baseline": {part: scores(looked_up[looked_up["part"] == part]) for part in parts},
            "illegal_tags": {part: {column: illegal(table[table["part"] == part], column) for column in ("argmax", "predicted")}
                             for part in parts},
            "pos_accuracy": {part: float((rows["pos"] == rows["pos_predicted"]).mean()) for part, rows in table.groupby("part")
                             if rows["pos_predicted"].notna().all()}}


def illegal(table: pd.DataFrame, column: str = "argmax") -> int:
    """How many words have a tag in `column` that IOB2 does not allow there: I-x after anything but B-x or I-x."""
    tags = table[column].astype(str)
    before = tags.shift(fill_value="O").where(~_starts(table), "O")
    return int((tags.str.startswith("I-") & (before.str[2:] != tags.str[2:])).sum())


def lookup(training: pd.DataFrame, words: pd.Series) -> np.ndarray:
    """Each word's most frequent tag in the training part, O for unseen words; of equally frequent ones the one that
    occurs first. This is what any model must beat."""
    counts = training.groupby(["word", "gold"], sort=False, observed=True).size().reset_index(name="count")
    best = counts.sort_values("count", ascending=False, kind="stable").drop_duplicates("word").set_index("word")["gold"]
    return words.map(best).fillna("O").to_numpy(object)


def score_table(report: dict[str, Any]) -> pd.DataFrame:
    """A report as a table: a row a type, then micro, macro and weighted averages."""
    return pd.DataFrame(report).T.astype({"support": int})


def source_report(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{"source": its table} if `report` was made on the source's test set, as equal supports show, else {}."""
    same = {name: row["support"] for name, row in report.items()} == {name: row[3] for name, row in SOURCE.items()}
    columns = ("precision", "recall", "f1-score", "support")
    return {"source": {name: dict(zip(columns, row, strict=True)) for name, row in SOURCE.items()}} if same else {}


def leakage(training: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Shares of test sentences that also stand in the training part, that have a neighbour in it, and of test mentions
    whose (type, surface) never occurs in it; the sentence numbers of both tables are those of one file."""
    train, texts = ([" ".join(words) for words in sequences(table, "word")] for table in (training, test))
    numbers, known, train, found = test["sentence"].unique(), training["sentence"].unique(), set(train), mentions(test)
    return {"equal sentence": float(np.mean([text in train for text in texts])),
            "neighbour in training": float((np.isin(numbers - 1, known) | np.isin(numbers + 1, known)).mean()),
            "unseen mentions": float((novelty(found, training) != "seen").mean())}


def mentions(table: pd.DataFrame, column: str = "gold") -> pd.DataFrame:
    """The mentions in `column`, a row each: part, sentence, first and last (row numbers of `table`), type, surface, words.

    As in conlleval, a mention begins at B-, at an I- whose type differs from its predecessor's, and at any tag after O.
    """
    tags = table[column].to_numpy(object).astype(str)
    prefix, kind = tags.astype("U1"), np.array([tag[2:] for tag in tags], object)
    inside, fresh = prefix != "O", np.append([True], kind[1:] != kind[:-1]) | _starts(table)
    begins = inside & ((prefix == "B") | fresh)
    first = np.flatnonzero(begins)
    stops = np.flatnonzero(np.append(begins | ~inside | fresh, True))
    last = stops[np.searchsorted(stops, first, side="right")] - 1 if len(first) else first
    words = table["word"].to_numpy(object)
    return pd.DataFrame({
        "part": table["part"].to_numpy()[first] if "part" in table else "training",
        "sentence": table["sentence"].to_numpy()[first], "first": first, "last": last, "type": kind[first],
        "surface": [" ".join(words[a:b + 1]) for a, b in zip(first, last, strict=True)], "words": last - first + 1})


def align(table: pd.DataFrame) -> pd.DataFrame:
    """Every gold and every predicted mention once, paired: a row each pair, missed and spurious mention.

    Equal spans pair first; then overlapping ones, largest overlap first, earlier before later. Columns: kind (KINDS), gold
    and predicted (types, MISSED and SPURIOUS where there is no partner), gold_first, gold_last, pred_first, pred_last
    (row numbers of `table`, -1 without partner), part, sentence, surface (of gold if there is one).
    """
    gold, pred = mentions(table, "gold"), mentions(table, "predicted")
    same = gold.reset_index().merge(pred.reset_index(), on=["first", "last"])
    pairs = list(zip(same["index_x"], same["index_y"], strict=True))
    free_gold, free_pred = gold.drop(same["index_x"]), pred.drop(same["index_y"])
    # Mentions of one column never overlap each other, so only neighbours in order can overlap across columns.
    low = np.searchsorted(free_pred["last"], free_gold["first"])
    high = np.searchsorted(free_pred["first"], free_gold["last"], side="right")
    overlaps = []
    for i, a, b in zip(free_gold.index, low, high, strict=True):
        for j in free_pred.index[a:b]:
            shared = min(gold["last"][i], pred["last"][j]) - max(gold["first"][i], pred["first"][j]) + 1
            overlaps.append((-shared, i, j))
    used_gold, used_pred = set(same["index_x"]), set(same["index_y"])
    for _, i, j in sorted(overlaps):
        if i not in used_gold and j not in used_pred:
            pairs.append((i, j))
            used_gold.add(i)
            used_pred.add(j)
    pairs += [(i, -1) for i in gold.index if i not in used_gold] + [(-1, j) for j in pred.index if j not in used_pred]
    left = gold.reindex([i for i, _ in pairs]).reset_index(drop=True)
    right = pred.reindex([j for _, j in pairs]).reset_index(drop=True)
    span, kind = (left["first"] == right["first"]) & (left["last"] == right["last"]), left["type"] == right["type"]
    names = np.select([right["type"].isna(), left["type"].isna(), span & kind, span, kind],
                      ["missed", "spurious", "correct", "type", "boundary"], "both")
    rows = {f"{name}_{end}": side[end].fillna(-1).astype(int)
            for name, side in (("gold", left), ("pred", right)) for end in ("first", "last")}
    result = pd.DataFrame({
        "kind": names, "gold": left["type"].fillna(SPURIOUS), "predicted": right["type"].fillna(MISSED), **rows,
        **{name: left[name].astype(object).fillna(right[name]) for name in ("part", "sentence", "surface")}})
    return result.astype({"sentence": int}).iloc[np.argsort(extent(result)[0], kind="stable")].reset_index(drop=True)


def extent(aligned: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last row of the table that either span of each pair in `aligned` covers."""
    first, last = aligned[["gold_first", "pred_first"]], aligned[["gold_last", "pred_last"]]
    return first.where(first >= 0, np.inf).min(axis=1).to_numpy(int), last.max(axis=1).to_numpy(int)


def confusion_of_tags(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Words by gold tag (rows) and predicted tag (columns), in the order of `labels`; misses and false alarms are the
    column and the row of O."""
    return pd.crosstab(table["gold"], table["predicted"]).reindex(index=labels, columns=labels, fill_value=0)


def confusion_of_mentions(aligned: pd.DataFrame, types: Sequence[str]) -> pd.DataFrame:
    """Mentions by gold type (rows, last SPURIOUS) and predicted type (columns, last MISSED), whatever their boundaries."""
    return pd.crosstab(aligned["gold"], aligned["predicted"]).reindex(
        index=[*types, SPURIOUS], columns=[*types, MISSED], fill_value=0)


def novelty(found: pd.DataFrame, training: pd.DataFrame) -> pd.Series:
    """For each mention in `found`: 'seen' (with this type in the training part), 'other type', or 'unseen'."""
    known = mentions(training)
    with_type = set(zip(known["type"], known["surface"], strict=True))
    surfaces = set(known["surface"])
    return pd.Series(["seen" if pair in with_type else "other type" if pair[1] in surfaces else "unseen"
                      for pair in zip(found["type"], found["surface"], strict=True)], index=found.index, dtype=str)


def by_slice(table: pd.DataFrame, aligned: pd.DataFrame, of_gold: pd.Series, of_pred: pd.Series | None = None) -> pd.DataFrame:
    """Scores in each slice: recall over the gold mentions in it; with `of_pred` also precision and F1.

    `of_gold`, `of_pred`: the slice of each mention of mentions(table, "gold") and (table, "predicted"), in order.
    """
    right = aligned[aligned["kind"] == "correct"]
    gold = pd.DataFrame({"slice": of_gold.array, "hit": np.isin(mentions(table)["first"], right["gold_first"])})
    result = gold.groupby("slice", sort=True, observed=True)["hit"].agg(recall="mean", support="size")
    if of_pred is not None:
        firsts = mentions(table, "predicted")["first"]
        pred = pd.DataFrame({"slice": of_pred.array, "hit": np.isin(firsts, right["pred_first"])})
        result["precision"] = pred.groupby("slice", observed=True)["hit"].mean().reindex(result.index).fillna(0.0)
        total = (result["precision"] + result["recall"]).replace(0, np.nan)
        result["f1"] = (2 * result["precision"] * result["recall"] / total).fillna(0.0)
    return result


def confidence(table: pd.DataFrame, first: Sequence[int], last: Sequence[int]) -> np.ndarray:
    """Of each span, from row `first` to `last` of `table`, the product of its words' P(predicted)."""
    logs = np.append([0], np.log(table["confidence"].to_numpy(float)).cumsum())
    return np.exp(logs[np.asarray(last, int) + 1] - logs[np.asarray(first, int)])


def mention_confidence(table: pd.DataFrame, aligned: pd.DataFrame) -> pd.DataFrame:
    """Each predicted mention: type, surface, confidence (the product of its words' P(predicted)), correct (exactly)."""
    pred, right = mentions(table, "predicted"), aligned.loc[aligned["kind"] == "correct", "pred_first"]
    return pred.assign(confidence=confidence(table, pred["first"], pred["last"]), correct=np.isin(pred["first"], right))


def temperature(scores: np.ndarray, gold: np.ndarray) -> float:
    """The temperature by which log-probabilities (words, tags) must be divided to make gold (words,) tag ids likeliest.

    Above 1: the model is overconfident. Fit it on validation, use it on test (Guo et al. 2017)."""
    def loss(log: float) -> float:
        return -tempered(scores, float(np.exp(log)))[np.arange(len(gold)), gold].mean()
    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.1), np.log(20)), method="bounded").x))


def tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Log-probabilities at another temperature, (words, tags) float64."""
    return log_softmax(scores.astype(np.float64) / temperature, axis=1)


def partial(table: pd.DataFrame) -> pd.DataFrame:
    """nervaluate's four readings of "found" (SemEval 2013, task 9), a row each: precision, recall, f1.

    strict: span and type; exact: span; partial: half for overlapping spans; ent_type: type of an overlapping span."""
    types = sorted({tag[2:] for column in ("gold", "predicted") for tag in pd.unique(table[column]) if tag != "O"})
    judged = Evaluator(sequences(table, "gold"), sequences(table, "predicted"), tags=types, loader="list").evaluate()["overall"]
    return pd.DataFrame({name: {score: getattr(row, score) for score in ("precision", "recall", "f1")}
                         for name, row in judged.items()}).T


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> tuple[pd.DataFrame, float]:
    """Equal-mass bins (a row each: confidence, accuracy, mentions) and the Brier score, mean (confidence - correct)²."""
    order = np.argsort(confidence, kind="stable")
    chunks = [chunk for chunk in np.array_split(order, bins) if len(chunk)]
    rows = [{"confidence": confidence[c].mean(), "accuracy": correct[c].mean(), "mentions": len(c)} for c in chunks]
    brier = np.mean((confidence - correct) ** 2) if len(confidence) else np.nan
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "mentions"]), float(brier)
