"""The report of an evaluation: JSON, the table of emotion control, and sheets of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation.asked import Asked
from eamm_jax.evaluation.cases import Frames
from eamm_jax.evaluation.measurement import METRICS, Values
from eamm_jax.evaluation.statistics import differences, estimates

Picture = UInt8[np.ndarray, "h w 3"]

SHEET_FRAMES = 8
"""Frames per clip on its sheet, evenly spaced."""

CELL = 128
"""Size of a frame on a sheet; larger frames are downsampled."""

_LABEL_WIDTH, _LINE, _HEADING = 104, 18, 26
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


class Row(NamedTuple):
    """A row of frames on a sheet."""

    label: str
    pictures: Sequence[Picture]


def statistics_json(by_clip: Mapping[str, Mapping[str, Values]]) -> dict[str, Any]:
    """Means with their intervals by method, and the differences of every two methods."""
    return {
        "means": {
            method: {key: found._asdict() for key, found in by_key.items()}
            for method, by_key in estimates(by_clip, METRICS).items()
        },
        "differences": [
            {
                "metric": key,
                "method": first,
                "against": second,
                **found.estimate._asdict(),
                "higher": found.higher,
                "lower": found.lower,
                "p": found.p,
            }
            for key, by_pair in differences(by_clip, METRICS).items()
            for (first, second), found in by_pair.items()
        ],
    }


def asked_table(asked: Asked) -> Table:
    """The confusion matrix of requested emotions, with mouth-opening correlation and jitter."""
    title = (
        f"Asked for an emotion: {asked.share_right:.0%} named right, {len(asked.people)} people; "
        f"without one {asked.neutral_without:.0%} named neutral"
    )
    result = Table(title=title, title_justify="left")
    result.add_column("asked")
    for emotion in EMOTIONS:
        result.add_column(emotion[:8], justify="right")
    result.add_column("mouth (r)", justify="right")
    result.add_column("jitter (px)", justify="right")
    for row, emotion in enumerate(asked.requests):
        counts = [str(count) if count else "·" for count in asked.named[row]]
        result.add_row(emotion, *counts, f"{asked.mouth[row]:.3f}", f"{asked.jitter[row]:.2f}")
    return result


def asked_json(asked: Asked) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "people": asked.people,
        "share_right": asked.share_right,
        "neutral_without": asked.neutral_without,
        "mouth_lost": asked.mouth_lost,
        "asked": list(asked.requests),
        "named": asked.named.tolist(),
        "mouth_correlation": asked.mouth,
        "jitter": asked.jitter,
    }


def spread(frames: Frames) -> list[Picture]:
    """Some frames of a clip, evenly spaced."""
    places = np.linspace(0, len(frames) - 1, SHEET_FRAMES).round().astype(int)
    return [frames[place] for place in places]


def sheet(title: str, rows: Sequence[Row]) -> Picture:
    """A sheet of labelled rows of frames, with a title.

    Args:
        title: one line.
        rows: rows of equal length, of frames of equal size.
    """
    side = min(CELL, rows[0].pictures[0].shape[0])
    width = _LABEL_WIDTH + side * max(len(row.pictures) for row in rows)
    page = Image.new("RGB", (width, _LINE + side * len(rows)), _PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(12)
    draw.text((4, 2), title, _INK, font)
    for number, row in enumerate(rows):
        top = _LINE + side * number
        draw.text((4, top + side // 2 - 6), row.label, _INK, font)
        for place, picture in enumerate(row.pictures):
            cell = Image.fromarray(np.ascontiguousarray(picture))
            if cell.size != (side, side):
                cell = cell.resize((side, side), Image.Resampling.LANCZOS)
            page.paste(cell, (_LABEL_WIDTH + side * place, top))
    return np.asarray(page)


def one_line(contestant: str, values: Values) -> str:
    """The main metrics of a clip, for its sheet."""
    keys = ("psnr", "psnr_mouth", "mouth_correlation", "f_lmd")
    figures = [
        f"{metric.label} {values[key]:.{metric.digits}f} {metric.unit}"
        for key, metric in METRICS.items()
        if key in keys and key in values
    ]
    return f"{contestant}: {', '.join(figures)}"


def best_median_worst(
    by_clip: Mapping[str, Mapping[str, Values]], contestant: str
) -> dict[str, str]:
    """The clips with the highest, median and lowest PSNR."""
    names = ranked(by_clip, contestant)
    return {"best": names[0], "median": names[len(names) // 2], "worst": names[-1]}


def ranked(by_clip: Mapping[str, Mapping[str, Values]], contestant: str) -> list[str]:
    """The clips that have a contestant, by its PSNR, the best first."""
    names = [name for name, clip in by_clip.items() if contestant in clip]
    return sorted(names, key=lambda name: by_clip[name][contestant]["psnr"], reverse=True)


def stacked(sheets: Mapping[str, Picture]) -> Picture:
    """Sheets stacked vertically, each with a heading."""
    width = max(picture.shape[1] for picture in sheets.values())
    height = sum(_HEADING + len(picture) for picture in sheets.values())
    page = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    top = 0
    for heading, picture in sheets.items():
        draw.text((4, top + 4), heading, _INK, font)
        page.paste(Image.fromarray(picture), (0, top + _HEADING))
        top += _HEADING + len(picture)
    return np.asarray(page)


def asked_sheet(asked: Asked, shown: Sequence[Sequence[Picture]]) -> Picture:
    """One row of requests per person."""
    title = "asked for: " + ", ".join(asked.requests)
    return sheet(title, list(map(Row, asked.people, shown)))
