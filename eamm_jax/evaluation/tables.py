"""The tables of a report, for the terminal, Markdown and LaTeX.

Means carry the interval of `statistics.estimate`; what a cell says is decided here, once for all
forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import rich.table

from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation.measurement import METRICS, RECOGNIZED, Metric
from eamm_jax.evaluation.statistics import (
    Difference,
    Estimate,
    Table,
    differences,
    estimates,
    grouped,
    methods_of,
)
from eamm_jax.input_pipeline.clips import Labels

HEADLINE = (
    *("psnr", "ssim", "m_lmd", "f_lmd", "mouth_correlation", "mouth_lag"),
    *("lpips", "cpbd", "jitter", "csim", "emotion"),
)
"""Metrics of the tables by group, which would otherwise be too wide."""

_ARROWS = {1: " ↑", -1: " ↓", 0: ""}
_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "Δ": r"$\Delta$"},
}


class Sheet(NamedTuple):
    """A table in words.

    Attributes:
        title: what it shows.
        columns: headings.
        rows: cells, as many as columns; the first `labels` of them are words, the others numbers.
        labels: how many.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    labels: int = 1


def heading(metric: Metric) -> str:
    """A metric with its unit and the direction that is better."""
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.label}{unit}{_ARROWS[metric.better]}"


def cell(found: Estimate, digits: int) -> str:
    """A mean, with its interval if there is more than one clip."""
    mean = f"{found.mean:.{digits}f}"
    if found.clips < 2:
        return mean
    return f"{mean} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def means(by_clip: Table) -> Sheet:
    """All means: one row per metric, one column per method."""
    found = estimates(by_clip, METRICS)
    rows = [
        (
            heading(metric),
            *(cell(by_key[key], metric.digits) if key in by_key else "-"
              for by_key in found.values()),
        )
        for key, metric in METRICS.items()
        if any(key in by_key for by_key in found.values())
    ]  # fmt: skip
    clips = f"{len(by_clip)} clip" + "s" * (len(by_clip) != 1)
    return Sheet(f"Means of {clips} [95 % interval]; px of 256x256", ("", *found), rows)


def compared(by_clip: Table) -> Sheet:
    """Differences of every two methods on the same clips: one row per metric and pair."""
    rows = [
        (heading(METRICS[key]), first, second, *_difference_cells(found, METRICS[key].digits))
        for key, by_pair in differences(by_clip, METRICS).items()
        for (first, second), found in by_pair.items()
    ]
    columns = ("", "method", "against", "difference", "higher", "lower", "p (sign test)")
    return Sheet("Paired differences [95 % interval]", columns, rows, labels=3)


def _difference_cells(found: Difference, digits: int) -> tuple[str, str, str, str]:
    sign = "+" if found.estimate.mean > 0 else ""
    return (
        sign + cell(found.estimate, digits),
        str(found.higher),
        str(found.lower),
        f"{found.p:.1g}" if found.p < 0.001 else f"{found.p:.3f}",
    )


def by_group(by_clip: Table, labels: Mapping[str, Labels]) -> list[Sheet]:
    """Means by emotion, by its level and by identity, where clips differ in it."""
    kinds = {
        "emotion": lambda name: _emotion(labels[name]),
        "level": lambda name: str(labels[name].level or ""),
        "identity": lambda name: labels[name].identity,
    }
    sheets = []
    for kind, group_of in kinds.items():
        groups = grouped(by_clip, group_of)
        if len(groups) < 2:
            continue
        present = {key for clip in by_clip.values() for values in clip.values() for key in values}
        keys = [key for key in HEADLINE if key in present]
        rows = []
        for group, clips in groups.items():
            for method, found in estimates(clips, keys).items():
                cells = (
                    cell(found[key], METRICS[key].digits) if key in found else "-" for key in keys
                )
                rows.append((group, str(len(clips)), method, *cells))
        columns = (kind, "clips", "method", *(heading(METRICS[key]) for key in keys))
        sheets.append(Sheet(f"Means by {kind} [95 % interval]", columns, rows, labels=3))
    return sheets


def confusions(by_clip: Table, labels: Mapping[str, Labels]) -> list[Sheet]:
    """For each method: clips of an emotion (rows) by the recognized one (columns)."""
    sheets = []
    for method in methods_of(by_clip):
        counts = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
        for name, clip in by_clip.items():
            if labels[name].emotion >= 0 and RECOGNIZED in clip.get(method, {}):
                counts[labels[name].emotion, int(clip[method][RECOGNIZED])] += 1
        if counts.any():
            rows = [
                (EMOTIONS[row], *map(str, counts[row])) for row in range(len(EMOTIONS))
                if counts[row].any()
            ]  # fmt: skip
            share = f"{np.trace(counts) / counts.sum():.0%}".replace("%", " %")
            title = f"Emotions recognized in {method}: {share} of {counts.sum()} clips as labelled"
            sheets.append(Sheet(title, ("", *EMOTIONS), rows))
    return sheets


def _emotion(labels: Labels) -> str:
    return EMOTIONS[labels.emotion] if labels.emotion >= 0 else ""


def missing(faults: Mapping[str, Mapping[str, str]]) -> Sheet:
    """What was not measured, or not all of it, and why."""
    rows = [(clip, method, why) for clip, found in faults.items() for method, why in found.items()]
    return Sheet("Not measured, or not all of it", ("clip", "method", "why"), rows, labels=3)


def all_sheets(
    by_clip: Table,
    labels: Mapping[str, Labels],
    fid: Mapping[str, float],
    faults: Mapping[str, Mapping[str, str]],
) -> list[Sheet]:
    """Every table of a report."""
    distances = [Sheet("FID ↓", ("", "FID"), [(m, f"{x:.2f}") for m, x in fid.items()])]
    comparisons = [compared(by_clip)] if len(methods_of(by_clip)) > 1 else []
    return [
        means(by_clip),
        *(distances if fid else []),
        *comparisons,
        *by_group(by_clip, labels),
        *confusions(by_clip, labels),
        *([missing(faults)] if faults else []),
    ]


def to_rich(sheet: Sheet) -> rich.table.Table:
    """For the terminal; an interval stands below its mean."""
    result = rich.table.Table(title=sheet.title, title_justify="left")
    for place, column in enumerate(sheet.columns):
        left = place < sheet.labels
        result.add_column(column, justify="left" if left else "right", no_wrap=left)
    for row in sheet.rows:
        words, numbers = row[: sheet.labels], row[sheet.labels :]
        result.add_row(*words, *(number.replace(" [", "\n\\[") for number in numbers))
    return result


def to_markdown(sheet: Sheet) -> str:
    """As a heading and a table."""
    rules = ["---"] * sheet.labels + ["---:"] * (len(sheet.columns) - sheet.labels)
    lines = [_piped(row) for row in (sheet.columns, rules, *sheet.rows)]
    return "\n".join([f"## {sheet.title}", "", *lines, ""])


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def to_latex(sheet: Sheet) -> str:
    """As a `table` with the rules of the package booktabs."""
    columns = "l" * sheet.labels + "r" * (len(sheet.columns) - sheet.labels)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(sheet.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(sheet.columns),
            r"\midrule",
            *map(line, sheet.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
