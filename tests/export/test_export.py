"""Exported parts compute what the program computes, and lower for absent platforms."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax import export as jax_export

from eamm_jax import export, features
from eamm_jax.animate import Animator, Settings
from eamm_jax.errors import UserError
from tests.tiny import tiny_variables

pytest.importorskip("flatbuffers", reason="needs the extra 'export'")

FRAMES = 5
AUDIO_WEIGHT = 50.0  # so that speech moves keypoints of untrained networks
PARTS = ("encode_source", "audio_to_keypoints", "read_emotion", "combine", "render")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    sizes = export.write(folder, *tiny_variables(), ["cpu", "cuda", "tpu"])
    assert set(sizes) == {
        "manifest.json",
        "weights.npz",
        *(f"parts/{name}.jaxexport" for name in PARTS),
    }
    return folder


class Inputs(NamedTuple):
    """Of one chunk."""

    image: np.ndarray
    audio: np.ndarray
    pose: np.ndarray
    emotional: np.ndarray


def inputs_of(config, frames: int = FRAMES) -> Inputs:
    rng = np.random.default_rng(0)
    size = config.image_size
    return Inputs(
        rng.uniform(size=(1, size, size, 3)).astype(np.float32),
        rng.normal(size=(frames, 28, 12)).astype(np.float32),
        rng.normal(size=(frames, 6)).astype(np.float32),
        rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8),
    )


def run_all(call, config, given: Inputs, *, silent_start: bool = False, driving="emotional"):
    """One chunk, by a function of part and inputs, as docs/export.md says."""

    def renamed(arrays, before, after):
        return {
            name.replace(before, after, 1): value
            for name, value in arrays.items()
            if name.startswith(before)
        }

    source = call("encode_source", {"image": given.image})
    keypoints = renamed(source, "source/keypoints/", "source/")
    zeros = np.zeros(
        (config.audio_to_motion.lstm_layers, 1, config.audio_to_motion.lstm_width), np.float32
    )

    def predict(audio, pose):
        inputs = {
            "embedding": source["source/embedding"],
            "audio": audio,
            "pose": pose,
            "state/hidden": zeros,
            "state/cell": zeros,
            "audio_weight": np.float32(AUDIO_WEIGHT),
        }
        return call("audio_to_keypoints", inputs)

    predicted = predict(given.audio, given.pose)
    k, moved = config.num_keypoints, len(config.moved_keypoints)
    state = {
        "state/started": np.zeros((), bool),
        "state/first/value": np.zeros((1, k, 2), np.float32),
        "state/first/jacobian": np.zeros((1, k, 2, 2), np.float32),
    }
    for track, count in (("keypoints", k), ("displacement", moved)):
        for part, shape in (("value", (count, 2)), ("jacobian", (count, 2, 2))):
            for name in ("raw", "filtered", "speed"):
                state[f"state/{track}/{part}/{name}"] = np.zeros(shape, np.float32)
            state[f"state/{track}/{part}/started"] = np.zeros((), bool)
    if silent_start:
        silence = predict(np.zeros_like(given.audio[:1]), given.pose[:1])
        state |= renamed(silence, "raw/", "state/first/") | {"state/started": np.ones((), bool)}
    combined = call(
        "combine",
        {
            **keypoints,
            **renamed(predicted, "raw/", "raw/"),
            **call("read_emotion", {"frames": given.emotional}),
            "weights": np.ones(moved, np.float32),
            "scale": np.float32(1),
            **state,
        },
    )
    assert renamed(combined, "state/", "state/").keys() == state.keys()
    chosen = renamed(combined, f"driving/{driving}/", "driving/")
    features = renamed(source, "source/features/", "features/")
    return np.asarray(call("render", {**features, **keypoints, **chosen})["frames"])


@pytest.mark.slow
def test_exported_parts_give_the_same_numbers_for_any_number_of_frames(folder):
    config, variables = tiny_variables()
    with np.load(folder / "weights.npz") as file:
        weights = dict(file)
    parts = {
        path.stem: jax_export.deserialize(bytearray(path.read_bytes()))
        for path in (folder / "parts").iterdir()
    }
    ours = {n: jax.jit(part.run) for n, part in export.make_parts(config, variables).items()}
    flat = export.flatten(variables)
    for frames in (FRAMES, 2):
        given = inputs_of(config, frames)
        found = run_all(lambda name, x: parts[name].call(weights, x), config, given)
        expected = run_all(lambda name, x: ours[name](flat, x), config, given)
        assert found.shape == (frames, 64, 64, 3)
        assert found.std() > 1
        # Bytes: a rounding may fall to the other side.
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert (found != expected).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("silent_start", [False, True])
def test_the_parts_animate_as_the_animator_does(silent_start):
    """With motion relative to the first frame, or to silence."""
    config, variables = tiny_variables()
    changes = {"relative_motion": True, "relative_to_silence": silent_start}
    config = config.replace({f"inference.{name}": value for name, value in changes.items()})
    mfcc = 5 * np.random.default_rng(1).normal(size=(4 * FRAMES + 24, 13)).astype(np.float32)
    audio = features.audio_windows(mfcc, 0, features.num_frames(len(mfcc)))
    given = inputs_of(config)
    given = given._replace(audio=audio, pose=np.repeat(given.pose[:1], len(audio), axis=0))
    settings = Settings(mask_mouth=False, audio_weight=AUDIO_WEIGHT)
    animator = Animator(config, variables, chunk=4)
    animation = animator.animate(given.image[0], mfcc, given.pose[:1], settings=settings)
    expected = np.stack([frame.image for frame in animation])
    parts = {n: jax.jit(part.run) for n, part in export.make_parts(config, variables).items()}
    flat = export.flatten(variables)

    def run(silent_start):
        def call(name, inputs):
            return parts[name](flat, inputs)

        return run_all(call, config, given, silent_start=silent_start, driving="neutral")

    found = run(silent_start)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    # Bytes: a rounding may fall to the other side.
    assert (found != expected).mean() < 1e-3
    assert (run(not silent_start) != expected).mean() > 0.02


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
file = open(folder + "/parts/encode_source.jaxexport", "rb")
part = export.deserialize(bytearray(file.read()))
out = part.call(weights, {"image": np.full((1, 64, 64, 3), 0.5, np.float32)})
print(*sorted(out), float(np.abs(out["source/keypoints/value"]).max()) <= 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("source/embedding", "source/features/features", "source/features/thumbnail"),
        *("source/keypoints/jacobian", "source/keypoints/value", "True"),
    ]


def test_the_manifest_names_platforms_and_shapes(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["parts"]["render"]["outputs"] == {"frames": "uint8[t, 64, 64, 3]"}
    assert manifest["parts"]["audio_to_keypoints"]["inputs"]["audio"] == "float32[t, 28, 12]"
    for path in (folder / "parts").iterdir():
        part = jax_export.deserialize(bytearray(path.read_bytes()))
        assert part.platforms == ("cpu", "cuda", "tpu")
    # One that is for a TPU only does not run here.
    only = jax_export.export(jax.jit(lambda x: x + 1), platforms=["tpu"])(np.float32(1))
    with pytest.raises(ValueError, match="platform"):
        only.call(np.float32(1))


def test_unknown_platforms_are_named(tmp_path):
    with pytest.raises(UserError, match="abacus; allowed are cpu, cuda"):
        export.write(tmp_path / "x", *tiny_variables(), ["cpu", "abacus"])
    assert list(tmp_path.iterdir()) == []
