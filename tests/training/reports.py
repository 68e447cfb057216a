"""Reads the metrics that a run has written."""

import json
import math
from pathlib import Path

from eamm_jax.training.metrics import JSONL_NAME


def read_metrics(workdir: Path, split: str) -> list[dict[str, float]]:
    """The reports of one split so far, in order; NaN where JSON has null."""
    text = (workdir / JSONL_NAME).read_text(encoding="utf-8")
    return [
        {k: math.nan if v is None else v for k, v in line.items() if k != "split"}
        for line in map(json.loads, text.splitlines())
        if line["split"] == split
    ]
