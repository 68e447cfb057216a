"""The report as one HTML file that needs no other: sortable tables and clips to play."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from eamm_jax.evaluation.tables import Sheet

SHOWN_CLIPS = 12
"""Clips that can be played: from the best to the worst, evenly by rank."""

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
section { margin: 2rem 0; overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd;
  white-space: nowrap }
th.word, td.word { text-align: left }
th button { all: unset; cursor: pointer; font-weight: 600 }
th button:focus-visible { outline: 2px solid #06c }
th[aria-sort=ascending] button::after { content: " \\25B2" }
th[aria-sort=descending] button::after { content: " \\25BC" }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem }
dt { font-weight: 600 } dd { margin: 0 }
.clip { display: inline-block; max-width: 100% }
.clip video { width: 100%; display: block }
.names { display: flex } .names span { flex: 1; text-align: center; overflow: hidden }
"""

_SCRIPT = """
for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => {
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex, word = header.classList.contains("word");
    const down = header.getAttribute("aria-sort") === "ascending";
    const value = row => word ? row.cells[column].textContent
                              : parseFloat(row.cells[column].textContent);
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!word && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y);
      return (word ? x.localeCompare(y) : x - y) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(order));
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
"""


class ShownClip(NamedTuple):
    """A clip that can be played.

    Attributes:
        name: its name.
        line: the main metrics of each method.
        methods: what is seen in the video, from left to right.
        video: an mp4 file.
    """

    name: str
    line: str
    methods: Sequence[str]
    video: bytes


def evenly(names: Sequence[str], count: int = SHOWN_CLIPS) -> list[str]:
    """So many of the names, the first and the last among them."""
    if len(names) <= count:
        return list(names)
    return [names[round(place * (len(names) - 1) / (count - 1))] for place in range(count)]


def page(
    title: str, facts: Mapping[str, str], sheets: Sequence[Sheet], clips: Sequence[ShownClip]
) -> str:
    """The whole file.

    Args:
        title: its heading.
        facts: what was evaluated, by name.
        sheets: its tables.
        clips: its clips.
    """
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{escape(title)}</h1>\n<dl>{listed}</dl>\n"
        + "".join(map(_table, sheets))
        + ("<h2>Clips, from the best to the worst</h2>\n" if clips else "")
        + "".join(map(_clip, clips))
        + f"<script>{_SCRIPT}</script>\n</html>\n"
    )


def _table(sheet: Sheet) -> str:
    def cells(tag: str, row: Sequence[str], wrap: str = "{}") -> str:
        kinds = [' class="word"'] * sheet.labels + [""] * (len(row) - sheet.labels)
        pairs = zip(kinds, row, strict=True)
        return "".join(f"<{tag}{kind}>{wrap.format(escape(text))}</{tag}>" for kind, text in pairs)

    columns = [column or "metric" for column in sheet.columns]
    head = cells("th", columns, '<button type="button">{}</button>')
    rows = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in sheet.rows)
    return (
        f'<section><h2>{escape(sheet.title)}</h2>\n<table class="sortable">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></section>\n"
    )


def _clip(clip: ShownClip) -> str:
    names = "".join(f"<span>{escape(method)}</span>" for method in clip.methods)
    data = base64.b64encode(clip.video).decode()
    return (
        f"<section><h3>{escape(clip.name)}</h3><p>{escape(clip.line)}</p>\n"
        f'<div class="clip"><div class="names">{names}</div>\n'
        f'<video controls loop preload="auto" src="data:video/mp4;base64,{data}"></video>'
        "</div></section>\n"
    )
