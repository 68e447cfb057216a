"""Image keypoints that are found once: the same losses, without reading the frames."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import stage1, stage2
from data.builder import Packing
from data.lrw.lrw_dataset_builder import Builder as Lrw
from data.mead.mead_dataset_builder import Builder as Mead
from data.teach import main, teach
from eamm_jax.checkpoint import save_networks
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline import Source, clips
from eamm_jax.input_pipeline.clips import KINDS, Tracks
from eamm_jax.input_pipeline.examples import ExampleReader
from eamm_jax.input_pipeline.sources import open_folder
from eamm_jax.models import build
from eamm_jax.training.bundled_config import KEYPOINTS
from eamm_jax.training.config import check_config
from eamm_jax.training.data import open_data
from eamm_jax.training.objectives import OBJECTIVES
from eamm_jax.training.objectives.base import Forward
from eamm_jax.training.taught import check_detectors
from tests.published_layout import write_lrw, write_mead
from tests.tiny import TINY, tiny_variables

HALF = 2.0**-11
"""Relative rounding of float16, as which heatmaps are kept."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    config, variables = tiny_variables()
    folder = tmp_path_factory.mktemp("teacher") / "model"
    save_networks(folder, config, {"kp_detector": variables["kp_detector"]})
    return folder


@pytest.fixture(scope="module")
def lrw(tmp_path_factory, checkpoint) -> Path:
    root = write_lrw(tmp_path_factory.mktemp("lrw"), clips=3, size=TINY.image_size)
    assert teach(str(root), str(checkpoint)) == (3, {})
    return root


@pytest.fixture(scope="module")
def mead(tmp_path_factory, checkpoint) -> Path:
    root = write_mead(tmp_path_factory.mktemp("mead"), frames=20, size=TINY.image_size)
    assert teach(str(root), str(checkpoint), heatmaps=False)[0] == 12
    return root


def configured(stage, data: str, *, taught: bool):
    config = stage.get_config("tiny")
    config.data, config.taught, config.augment = data, taught, False
    config.validation_fraction = 0.0
    return config


def losses(config, batch) -> dict[str, float]:
    objective = OBJECTIVES[config.stage](config, TINY)

    def terms(batch):
        found = objective.losses(Forward(build(TINY), tiny_variables()[1]), objective.inputs(batch))
        return found.terms

    return {name: float(value) for name, value in jax.jit(terms)(batch).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "kind", "builder"), [(stage1, "lrw", Lrw), (stage2, "mead", Mead)]
)
def test_losses_are_those_of_detected_keypoints(stage, kind, builder, request, tmp_path):
    root = request.getfixturevalue(kind)
    packing = Packing(str(root), keypoints=True, clips_per_shard=4, workers=1)
    builder(data_dir=str(tmp_path), packing=packing).download_and_prepare()
    config = configured(stage, f"{kind}={root}", taught=False)
    expected = losses(config, next(open_data(config, "train"))[0])
    for source in (root, tmp_path):
        config = configured(stage, f"{kind}={source}", taught=True)
        check_config(config, TINY)
        batch, _ = next(open_data(config, "train"))
        assert losses(config, batch) == pytest.approx(expected, rel=2 * HALF)


def test_from_truth_keypoints_are_where_the_landmarks_are(checkpoint, tmp_path, rng):
    root = write_lrw(tmp_path, clips=2, size=TINY.image_size)
    for name in (path.relative_to(root / "MFCC") for path in root.glob("MFCC/*/*.npy")):
        frames = len(np.load(root / "fomm_pose_crop" / name))
        for folder, points in (("landmarks", 68), ("pupils", 2)):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            track = rng.uniform(-1, 1, (frames, points, 2)).astype(np.float32)
            np.save(root / folder / name, track)
    assert teach(str(root), str(checkpoint), heatmaps=False, from_truth=True) == (2, {})
    folder = open_folder(Source("lrw", str(root)), Tracks(keypoints=True))
    clip = folder.open(0)
    found = clip.taught(range(clip.num_frames))
    name = folder.names[0]
    landmarks = np.load(root / "landmarks" / name.identity / f"{name.clip}.npy")
    points = KEYPOINTS[: TINY.num_keypoints]
    assert max(max(group) for group in points) < 68
    for k, group in enumerate(points):
        expected = landmarks[:, list(group)].mean(axis=1)
        np.testing.assert_allclose(found.value[:, k], expected, atol=1e-6)
    with pytest.raises(UserError, match="the truth has no heatmaps"):
        teach(str(root), str(checkpoint), from_truth=True)


def test_part_1_decodes_the_source_image_alone(lrw, monkeypatch):
    decoded = []
    decode = clips.decode_frame
    monkeypatch.setattr(
        clips, "decode_frame", lambda *arguments: decoded.append(1) or decode(*arguments)
    )
    source = Source("lrw", str(lrw))
    folder = open_folder(source, Tracks(motion=True, keypoints=True, heatmaps=True))
    whole = ExampleReader(folder, KINDS["lrw"], [[0]], 64)
    expected = whole.read(0, seed=0).data
    decoded.clear()
    found = replace(whole, with_frames=False).read(0, seed=0).data
    assert len(decoded) == 1
    assert found.frames.shape == (0, 64, 64, 3)
    jax.tree.map(
        np.testing.assert_array_equal, found._replace(frames=0), expected._replace(frames=0)
    )


def test_panels_need_no_frames(lrw):
    config = configured(stage1, f"lrw={lrw}", taught=True)
    batch, _ = next(open_data(config, "train"))
    objective = OBJECTIVES["stage1"](config, TINY)
    forward = Forward(build(TINY), tiny_variables()[1])
    panel = jax.eval_shape(lambda batch: objective.panel(forward, batch), batch)
    assert panel.shape == (2, TINY.image_size, 6 * TINY.image_size, 3)


def test_augmentation_that_keypoints_do_not_follow_is_refused(lrw):
    config = configured(stage1, f"lrw={lrw}", taught=True)
    config.augment = True
    with pytest.raises(UserError, match=r"config.augment changes .*config.taught to False"):
        check_config(config, TINY)
    config = configured(stage2, "mead=DATA", taught=True)
    config.augment = True  # of what the emotion network sees, not of the target
    check_config(config, TINY)


def test_keypoints_of_another_detector_are_refused(lrw, checkpoint, tmp_path, capsys):
    config, variables = tiny_variables(seed=1)
    batches = open_data(configured(stage1, f"lrw={lrw}", taught=True), "train")
    check_detectors(batches.detectors, TINY, tiny_variables()[1]["kp_detector"])
    with pytest.raises(UserError, match=r"kept with .* were found by the detector .*data\.teach"):
        check_detectors(batches.detectors, TINY, variables["kp_detector"])
    save_networks(tmp_path / "other", config, {"kp_detector": variables["kp_detector"]})
    flags = ["--root", str(lrw), "--checkpoint", str(tmp_path / "other")]
    with pytest.raises(SystemExit) as end:
        main(flags)
    assert end.value.code == 2
    assert "holds keypoints of the detector" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"this would write .*without: remove"):
        teach(str(lrw), str(checkpoint), heatmaps=False)


def test_data_without_keypoints_or_heatmaps_says_so(lrw, mead, tmp_path):
    bare = write_lrw(tmp_path / "bare", clips=1, size=TINY.image_size)
    with pytest.raises(UserError, match=r"holds no image keypoints; .*data\.teach"):
        open_data(configured(stage1, f"lrw={bare}", taught=True), "train")
    with pytest.raises(UserError, match="holds no heatmaps"):
        open_data(configured(stage1, f"mead={mead}", taught=True), "train")
    Lrw(data_dir=str(tmp_path), packing=Packing(str(lrw), workers=1)).download_and_prepare()
    with pytest.raises(UserError, match=r"lrw/1\.0\.0 holds no image keypoints"):
        open_data(configured(stage1, f"lrw={tmp_path}", taught=True), "train")


def test_resumes_and_skips_bad_clips(lrw, checkpoint, tmp_path):
    root = tmp_path / "lrw"
    shutil.copytree(lrw, root)
    tracks = sorted((root / "keypoints").glob("*/*.npy"))
    untouched = tracks[0].stat().st_mtime_ns
    for track in tracks[1:]:
        track.unlink()
    frame = root / "fomm_crop" / tracks[1].parent.name / tracks[1].stem / "4.png"
    frame.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"bad clip .*frame 4 is not a readable"):
        teach(str(root), str(checkpoint))
    name = f"{tracks[1].parent.name}/{tracks[1].stem}"
    done, skipped = teach(str(root), str(checkpoint), skip_bad=True)
    assert (done, list(skipped)) == (1, [name])
    assert tracks[0].stat().st_mtime_ns == untouched
    np.testing.assert_array_equal(
        np.load(tracks[2]), np.load(lrw / "keypoints" / tracks[2].relative_to(root / "keypoints"))
    )


@pytest.mark.parametrize(
    ("folder", "content", "fault"),
    [
        ("keypoints", np.full((29, 10, 6), np.nan, np.float32), "keypoints are not finite"),
        ("keypoints", np.zeros((28, 10, 6), np.float32), "keypoints have shape"),
        ("heatmaps", np.zeros((28, 9, 9, 10), np.float16), "does not hold 29 heatmaps"),
    ],
)
def test_damaged_keypoints_are_bad_clips(folder, content, fault, lrw, tmp_path):
    root = tmp_path / "lrw"
    shutil.copytree(lrw, root)
    for path in (root / folder).glob("*/*.npy"):
        np.save(path, content)
    with pytest.raises(UserError, match=fault):
        next(open_data(configured(stage1, f"lrw={root}", taught=True), "train"))
    (root / "keypoints" / "detector.json").write_text(json.dumps(["?"]))
    with pytest.raises(UserError, match="does not tell whose keypoints"):
        open_data(configured(stage1, f"lrw={root}", taught=True), "train")
