"""What notebooks show beside figures: sortable tables, an error browser, a box for one's own sentence.

In JupyterLab they are interactive. Under papermill, and so in every page, the same calls leave text and plain HTML.
Whatever comes from a corpus is shown as text: as HTML, as Markdown, as a formula it would be someone else's program.
"""

import os
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display

from nerlib import annotation, evaluation, highlight
from nerlib.params import INJECTED_MARK

PAGE = 8  # sentences
EXAMPLE = "Ada Lovelace moved from London to Turin in May."


def live() -> bool:
    """Whether someone sits before this notebook, in JupyterLab, so that widgets make sense. A papermill that was started from
    there inherits the session's name, but injects a cell."""
    cells = getattr(get_ipython(), "user_ns", {}).get("In", [])
    return "JPY_SESSION_NAME" in os.environ and not any(cell.split("\n")[0].strip() == INJECTED_MARK for cell in cells)


def begin() -> None:
    """Where it is live: bring the JavaScript of sortable tables into this cell's output, so that none is fetched."""
    if live():
        import itables  # here, since pages have no use for it
        itables.init_notebook_mode(all_interactive=False, connected=False)


def table(frame: pd.DataFrame | pd.Series, formats: Mapping[str, str] | str | None = None, **options: Any) -> None:
    """Display a table, sortable where it is live; `formats` and `options` (precision, na_rep, thousands) as in pandas."""
    frame = frame.to_frame() if isinstance(frame, pd.Series) else frame
    if not isinstance(formats, Mapping):  # which may be made for such cells
        frame = frame.map(lambda cell: str(cell) if isinstance(cell, tuple | list | dict | set) else cell)
    style = frame.style.format(formats, escape="html", **options)
    for axis in (0, 1):
        style = style.format_index(escape="html", axis=axis).format_index_names(escape="html", axis=axis)
    if not live():
        return display(HTML(style.set_table_attributes('class="dataframe mathjax_ignore tex2jax_ignore"').to_html()))
    import itables
    long = len(frame) > 10
    around = dict.fromkeys(["topStart", "topEnd", "bottomStart", "bottomEnd"]) | (
        {"topEnd": "search", "bottomEnd": "paging"} if long else {})
    display(HTML(itables.to_html_datatable(
        style, allow_html=True, connected=False, classes="display nowrap compact mathjax_ignore tex2jax_ignore", paging=long,
        layout=around, style="table-layout: auto; width: auto; margin: 0")))


def errors(rows: pd.DataFrame, aligned: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """The errors that `matching` chooses from, those with the highest loss first: the columns of evaluation.align, loss,
    type (of the gold mention, or of a spurious one), novelty, confidence (product of P(predicted) over both spans), text."""
    found = annotation.worst_loss(rows, aligned[aligned["kind"] != "correct"])
    found["type"] = found["gold"].where(found["kind"] != "spurious", found["predicted"])
    found["novelty"] = evaluation.novelty(found[["type", "surface"]], training).to_numpy()
    found["confidence"] = evaluation.confidence(rows, *evaluation.extent(found))
    texts = rows.groupby(["part", "sentence"])["word"].agg(" ".join)
    found["text"] = texts.loc[list(zip(found["part"], found["sentence"], strict=True))].to_numpy() if len(found) else ""
    return found.sort_values("loss", ascending=False, kind="stable")


def matching(found: pd.DataFrame, type: str = "all", kind: str = "all", novelty: str = "all",
             confidence: tuple[float, float] = (0, 1), search: str = "") -> pd.DataFrame:
    """Those of `errors` with the given properties, whose sentence has `search` in it, in whatever case."""
    chosen = found["confidence"].between(*confidence) & found["text"].str.contains(search, case=False, regex=False)
    for column, wanted in (("type", type), ("kind", kind), ("novelty", novelty)):
        if wanted != "all":
            chosen &= found[column] == wanted
    return found[chosen]


def error_browser(rows: pd.DataFrame, aligned: pd.DataFrame, training: pd.DataFrame) -> None:
    """Display the errors in their sentences: to filter, search and page through, or else two of each kind."""
    found = errors(rows, aligned, training)
    if not live():
        examples = found.drop_duplicates(["text", "kind"]).groupby("kind").head(2).sort_values("kind", kind="stable")
        return display(_sentences(rows, examples))
    choices = {name: widgets.Dropdown(options=["all", *sorted(found[name].unique())], description=name)
               for name in ("type", "kind", "novelty")}
    choices["confidence"] = widgets.FloatRangeSlider(value=(0, 1), min=0, max=1, step=0.01, description="confidence",
                                                     continuous_update=False)
    choices["search"] = widgets.Text(description="search", placeholder="words of the sentence", continuous_update=False)
    page, shown, where = widgets.BoundedIntText(1, min=1, description="page"), widgets.HTML(), widgets.Label()
    back, forward = (widgets.Button(description=name, layout=widgets.Layout(width="7em")) for name in ("previous", "next"))
    back.on_click(lambda _: setattr(page, "value", page.value - 1))
    forward.on_click(lambda _: setattr(page, "value", page.value + 1))

    def show(change: Mapping[str, Any]) -> None:
        chosen = matching(found, **{name: choice.value for name, choice in choices.items()}).drop_duplicates("sentence")
        pages = max(1, -(-len(chosen) // PAGE))
        page.max = pages
        if change["owner"] is not page and page.value != 1:
            page.value = 1  # calls again
            return
        first = PAGE * (page.value - 1)
        where.value = f"{len(chosen):,} sentences, page {page.value} of {pages}"
        back.disabled, forward.disabled = page.value == 1, page.value == pages
        shown.value = _sentences(rows, chosen[first:first + PAGE]).data if len(chosen) else "<p>No error is like that.</p>"
    for choice in (*choices.values(), page):
        choice.observe(show, "value")
    show({"owner": page})
    display(widgets.VBox([widgets.HBox([*choices.values()], layout=widgets.Layout(flex_flow="row wrap")),
                          widgets.HBox([back, forward, page, where]), shown]))


def _sentences(rows: pd.DataFrame, examples: pd.DataFrame) -> HTML:
    notes = (examples["kind"] + ": " + examples["surface"]).tolist()
    return highlight.sentences(rows, list(zip(examples["part"], examples["sentence"], strict=True)), notes)


def tagger_box(folder: Path) -> None:
    """Display a box in which the model in `folder` tags a sentence, or else what it makes of an example. A model that
    wants the corpus's POS tags says what to do instead."""
    from nerlib.tagger import Tagger  # here, since readers of finished runs need no torch

    try:
        tagger = Tagger.load(folder)
    except (FileNotFoundError, ValueError) as error:
        return display(HTML(f"<p>There is no model to try: {escape(str(error))}.</p>"))
    box = widgets.Text(EXAMPLE, description="sentence", continuous_update=False, layout=widgets.Layout(width="95%"))
    if not live():
        return display(HTML(_tagged(tagger, EXAMPLE)))
    shown = widgets.HTML(_tagged(tagger, box.value))
    box.observe(lambda change: setattr(shown, "value", _tagged(tagger, change["new"])), "value")
    display(widgets.VBox([box, shown]))


def _tagged(tagger: Callable, text: str) -> str:
    """A text with the mentions that the model finds in it, as HTML; or why it finds none."""
    try:
        found = tagger(text)
    except ValueError as error:
        return f"<p>{escape(str(error)[:1].upper() + str(error)[1:])}.</p>"
    return highlight.text(text, found) + ("" if found else "<p><small>The model finds no name here.</small></p>")
