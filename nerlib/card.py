"""A saved model's card: what it was trained on, what it scores, what it cannot. Written from the run's own record."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader

from nerlib.corpus import GMB_SHA256
from nerlib.highlight import code
from nerlib.runs import read_json, write_atomically

TEMPLATES = Path(__file__).parent / "templates"
BASE = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}


def _code(text: object) -> str:
    """`text` as inline code for Markdown: between backticks where nothing in it can be taken for markup, nor ends them."""
    return f"`{text}`" if re.fullmatch(r"[\w.,:;/=+@%()-]+( [\w.,:;/=+@%()-]+)*", str(text)) else code(text)


def warning(record: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What a reader of these scores should know first, of a model that looking words up would beat; '' of others, and where
    the records do not say."""
    with contextlib.suppress(KeyError, TypeError):
        part, steps = "test" if "test" in metrics else "validation", record["training"]["steps"]
        ours, lookup = (scores[part]["default"]["micro avg"]["f1-score"] for scores in (metrics, metrics["baseline"]))
        if not ours or ours < lookup:
            worse = "is worse than looking each word up in the training part" if ours else "finds no name"
            return f"This model {worse}. It was trained in {steps:,} steps: more epochs, or a smaller batch_size, may help."
    return ""


def write(model: Path, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> Path:
    """Write README.md into a model's folder, from what run.json and metrics.json hold, in the form of the Hugging Face hub."""
    part = "test" if "test" in metrics else "validation"
    corpus, encoder = record["corpus"], record["encoder"]["name"]
    base = encoder if "commit" in record["encoder"] else BASE.get(encoder)  # else it is a folder
    files = [Path(source).name for source in corpus["source"].split(" + ")]  # where they lay concerns nobody
    micro, gmb, sample = metrics[part]["default"]["micro avg"], corpus["sha256"] == GMB_SHA256, corpus["source"] == "sample"
    scores = {"precision": micro["precision"], "recall": micro["recall"], "f1": micro["f1-score"]}
    data = ModelCardData(
        model_name=record["run"], library_name="nerlib", pipeline_tag="token-classification", tags=["named-entity-recognition"],
        base_model=base, metrics=list(scores), language="en" if gmb or sample else None,
        eval_results=[EvalResult("token-classification", "corpus", ", ".join(files), name, value, dataset_split=part,
                                 metric_name=f"micro {name} (seqeval, default mode)")
                      for name, value in scores.items()])
    env = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    env.globals["code"] = _code  # what a corpus calls its types is text, not Markdown
    text = env.get_template("card.md.j2").render(
        record=record, metrics=metrics, warning=warning(record, metrics), encoder=encoder if base else Path(encoder).name,
        part=part, files=files, gmb=gmb, sample=sample,
        used=sum(record["split"][name] for name in ("training", "validation", "test")),
        uncased=read_json(model / "tokenizer_config.json").get("do_lower_case", False), rows=[*metrics["types"], "micro avg"])
    write_atomically(model / "README.md", f"---\n{data.to_yaml()}\n---\n\n{text}")
    return model / "README.md"
