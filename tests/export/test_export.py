"""Exported parts give the animator's numbers; they lower for devices that are not here."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export as jax_export

from eamm_jax import export
from eamm_jax.animate import Animator
from eamm_jax.errors import UserError
from tests.tiny import tiny_variables

pytest.importorskip("flatbuffers", reason="needs the extra 'export'")

FRAMES = 5


@pytest.fixture(scope="module")
def animator():
    return Animator(*tiny_variables(), chunk=FRAMES, fast=False, one_by_one=False)


@pytest.fixture(scope="module")
def folder(animator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    sizes = export.write(folder, animator, ["cpu", "cuda", "tpu"])
    assert set(sizes) == {
        "manifest.json",
        "weights.npz",
        *(f"parts/{name}.jaxexport" for name in ("see", "hear", "read", "feel", "draw")),
    }
    return folder


def run_all(call, config, frames: int = FRAMES) -> np.ndarray:
    """One chunk, by a function of part and inputs."""
    rng = np.random.default_rng(0)
    size = config.image_size

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    portrait = call("see", {"image": rng.uniform(size=(1, size, size, 3)).astype(np.float32)})
    lstm = np.zeros(
        (config.audio_to_motion.lstm_layers, 1, config.audio_to_motion.lstm_width), np.float32
    )
    heard = call(
        "hear",
        {
            "audio_code": portrait["audio_code"],
            "audio": normal(frames, 28, 12),
            "pose": normal(frames, 6),
            "lstm_hidden": lstm,
            "lstm_cell": lstm,
            "audio_weight": np.float32(1.6),
        },
    )
    emotional = rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
    keypoints = {name: portrait[name] for name in ("portrait_value", "portrait_jacobian")}
    raw = {name: heard[name] for name in ("raw_value", "raw_jacobian")}
    k, moved = config.num_keypoints, len(config.moved_keypoints)
    filters = {}
    for track, count in (("keypoints", k), ("displacement", moved)):
        for part, shape in (("value", (count, 2)), ("jacobian", (count, 2, 2))):
            for name in ("raw", "filtered", "speed"):
                filters[f"filter_{track}_{part}_{name}"] = np.zeros(shape, np.float32)
            filters[f"filter_{track}_{part}_started"] = np.zeros((), bool)
    felt = call(
        "feel",
        {
            **keypoints,
            **raw,
            "first_value": raw["raw_value"][:1],
            "first_jacobian": raw["raw_jacobian"][:1],
            "scale": np.float32(1),
            "code": call("read", {"frames": emotional})["code"],
            "emotion_weights": np.ones(moved, np.float32),
            **filters,
        },
    )
    code = {name: portrait[name] for name in ("features", "thumbnail")}
    driving = {f"driving_{part}": felt[f"emotional_{part}"] for part in ("value", "jacobian")}
    return np.asarray(call("draw", {**code, **keypoints, **driving})["frames"])


@pytest.mark.slow
def test_what_is_read_back_gives_the_same_numbers_for_any_number_of_frames(folder, animator):
    with np.load(folder / "weights.npz") as file:
        weights = dict(file)
    parts = {
        path.stem: jax_export.deserialize(bytearray(path.read_bytes()))
        for path in (folder / "parts").iterdir()
    }
    ours = export.make_parts(animator)
    flat = export.flat_weights(animator._variables)
    for frames in (FRAMES, 2):
        found = run_all(lambda name, x: parts[name].call(weights, x), animator.config, frames)
        expected = run_all(lambda name, x: ours[name].run(flat, x), animator.config, frames)
        assert found.shape == (frames, 64, 64, 3)
        assert found.std() > 1
        # Bytes: a rounding may fall to the other side.
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert (found != expected).mean() < 1e-3


@pytest.mark.slow
def test_it_runs_without_this_package(folder):
    """In a process where it cannot be imported."""
    program = """
import sys
sys.modules["eamm_jax"] = None
import jax, numpy as np
from jax import export
folder = sys.argv[1]
weights = dict(np.load(folder + "/weights.npz"))
see = export.deserialize(bytearray(open(folder + "/parts/see.jaxexport", "rb").read()))
out = see.call(weights, {"image": np.full((1, 64, 64, 3), 0.5, np.float32)})
print(sorted(out), float(np.abs(out["portrait_value"]).max()) <= 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = ["audio_code", "features", "portrait_jacobian", "portrait_value", "thumbnail"]
    assert done.stdout == f"{names} True\n"


def test_platforms_and_shapes_are_told(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["parts"]["draw"]["outputs"] == {"frames": "uint8[t, 64, 64, 3]"}
    assert manifest["parts"]["hear"]["inputs"]["audio"] == "float32[t, 28, 12]"
    for path in (folder / "parts").iterdir():
        part = jax_export.deserialize(bytearray(path.read_bytes()))
        assert part.platforms == ("cpu", "cuda", "tpu")
    # One that is for a TPU only does not run here.
    only = jax_export.export(jax.jit(lambda x: x + 1), platforms=["tpu"])(np.float32(1))
    with pytest.raises(ValueError, match="platform"):
        only.call(np.float32(1))


def test_unknown_platforms_are_named(animator, tmp_path):
    with pytest.raises(UserError, match="abacus; allowed are cpu, cuda"):
        export.write(tmp_path / "x", animator, ["cpu", "abacus"])
    assert list(tmp_path.iterdir()) == []
