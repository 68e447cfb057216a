"""The benchmark of encodings measures every one."""

import argparse

from benchmarks.frames import measure
from tests.published_layout import write_lrw


def test_every_encoding_is_measured(tmp_path):
    root = write_lrw(tmp_path / "lrw", clips=2, size=64)
    arguments = argparse.Namespace(kind="lrw", quality=80, size=64, examples=2)
    rows = measure(arguments, root, tmp_path)
    assert list(rows) == ["folder", "original", "jpeg", "webp"]
    assert all(row["examples_a_second"] > 0 for row in rows.values())
    assert all(10 < rows[name]["lowest_psnr"] < rows[name]["psnr"] for name in ("jpeg", "webp"))
