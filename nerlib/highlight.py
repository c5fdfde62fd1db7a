"""Sentences with gold and predicted mentions, as escaped HTML."""

from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

from nerlib.evaluation import mentions

SPECIAL = str.maketrans({character: f"&#{ord(character)};" for character in "&<>\"'`*_\\[](){}#+-.!|$~:\n"})
STYLE = """<style>
.ner p {line-height: 2.5; margin: 0 0 .7em; overflow-wrap: anywhere; white-space: pre-wrap}
.ner span {white-space: pre-line}
.ner sub, .ner sup, .ner i, .ner small {unicode-bidi: isolate}
.ner .a {border-bottom: 1px dotted currentColor; padding-bottom: 1px}
.ner .g {border-bottom: 3px solid; border-bottom-color: light-dark(#0072b2, #6bb8e8); padding-bottom: 1px}
.ner .p {border-top: 3px double; border-top-color: light-dark(#d55e00, #ff9a5c); padding-top: 1px}
.ner sub, .ner sup, .ner i {font: 600 .72em/0 sans-serif; vertical-align: -1.1em; user-select: none}
.ner sub {color: light-dark(#0072b2, #6bb8e8)} .ner sup {color: light-dark(#a84800, #ff9a5c); vertical-align: 1.1em}
.ner i {opacity: .75}
.ner small {display: block; line-height: 1.4; opacity: .75; user-select: none}
.ner .legend {display: flex; flex-wrap: wrap; gap: .5em 1.6em; margin-top: .7em; font-size: .8em; line-height: 1.5}
.ner {color-scheme: light dark}
[data-jp-theme-light=true] .ner {color-scheme: light} [data-jp-theme-light=false] .ner {color-scheme: dark}
</style>"""  # JupyterLab's theme need not be the system's; pre-line: a blank that ends a line within a mention is gone
LEGEND = ('<p class="legend"><span class="a">dotted, label below: both agree</span>'
          '<span class="g">solid line below, label below: the corpus alone</span>'
          '<span class="p">double line above, label above: the model alone</span></p>')


def code(text: object) -> str:
    """`text` as inline code for Markdown and HTML; no character of it is taken for markup or for a formula."""
    return f"<code>{str(text).translate(SPECIAL)}</code>"


def sentences(table: pd.DataFrame, which: list[tuple[str, int]], notes: list[str] | None = None) -> HTML:
    """Each (part, sentence) of `which` in a paragraph: mentions on which corpus and model agree dotted, other gold ones
    underlined, other predicted ones overlined, each with its type, so that none covers another and they differ without
    colour; `notes` stand behind each."""
    paragraphs = []
    for number, (part, sentence) in enumerate(which):
        rows = table[(table["part"] == part) & (table["sentence"] == sentence)].reset_index(drop=True)
        note = f" <small>({escape(notes[number])})</small>" if notes else ""
        paragraphs.append(f'<p dir="auto">{_marked(rows)}{note}</p>')
    return HTML(_page(LEGEND + "".join(paragraphs)))


def text(source: str, mentions: Iterable[Any]) -> str:
    """HTML of a text in which a model found `mentions` (start, end, type and confidence, from left to right)."""
    html, at = [], 0
    for m in mentions:
        html += [escape(source[at:m.start]), _span(escape(source[m.start:m.end]), ["p"]),
                 f"<sup>{escape(m.type)} {m.confidence:.2f}</sup>"]
        at = m.end
    return _page(f'<p dir="auto">{"".join(html)}{escape(source[at:])}</p>')


def _page(html: str) -> str:
    return f'{STYLE}<div class="ner mathjax_ignore tex2jax_ignore">{html}</div>'


def _marked(rows: pd.DataFrame) -> str:
    """One sentence; every word is a span of its own, so gold and predicted mentions may overlap in any way."""
    gold, predicted = ({(m.first, m.last, m.type) for m in mentions(rows, column).itertuples()}
                       for column in ("gold", "predicted"))
    marks = [("a", "i", gold & predicted), ("p", "sup", predicted - gold), ("g", "sub", gold - predicted)]
    html = []
    for row, word in enumerate(rows["word"]):
        here = [(name, tag, mention) for name, tag, found in marks for mention in found if mention[0] <= row <= mention[1]]
        if row:  # the blank before a word belongs to the mentions that began before it
            html.append(_span(" ", [name for name, _, mention in here if mention[0] < row]))
        html.append(_span(escape(word), [name for name, _, _ in here]))
        html += [f"<{tag}>{escape(mention[2])}</{tag}>" for _, tag, mention in here if mention[1] == row]
    return "".join(html)


def _span(text: str, classes: list[str]) -> str:
    return f'<span class="{" ".join(classes)}">{text}</span>' if classes else text
