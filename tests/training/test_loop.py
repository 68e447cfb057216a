"""The loop around a stage that compiles in no time: what it saves, reports and refuses."""

from __future__ import annotations

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import stage2
from eamm_jax.checkpoint import load_networks, save_networks
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline import make_dataset, parse_sources
from eamm_jax.models.presets import tiny
from eamm_jax.training import compilation, loop
from eamm_jax.training.checkpoint import Checkpoints
from eamm_jax.training.distributed import make_placement
from eamm_jax.training.metrics import DivergedError, Meter
from eamm_jax.training.stage import needed_networks
from tests.published_layout import write_voxceleb
from tests.training.reports import read_metrics
from tests.training.toy import NETWORK, make_toy_stage, toy_config, zeros


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_voxceleb(tmp_path_factory.mktemp("data"), people=4, clips=3, frames=3)


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setattr(loop, "make_stage", make_toy_stage)
    monkeypatch.setattr(loop, "needed_networks", lambda *_: ())


def networks_of(workdir) -> list[np.ndarray]:
    return jax.tree.leaves(load_networks(workdir / "model")[1])


def saved_steps(workdir) -> list[int]:
    checkpoints = Checkpoints(workdir, keep_last=10, keep_best=1)
    steps = checkpoints.steps
    checkpoints.close()
    return steps


def refused(config: ConfigDict, workdir, words: str, init_from=None) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        loop.train(config, workdir, init_from)
    assert "\n" not in str(refusal.value)


def test_a_run_saves_reports_and_shows(data, tmp_path, capsys):
    config = toy_config(
        data,
        num_steps=6,
        save_every=1,
        keep=2,
        eval_every=2,
        validation_fraction=0.5,
        panel_every=3,
        learning_rate=0.1,
    )
    loop.train(config, tmp_path)

    lines = read_metrics(tmp_path, "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for name in (
        *("loss", "brightness", "grad_norm", "learning_rate", "bad_steps"),
        *("examples_per_second", "frames_per_second", "input_wait"),
    ):
        assert all(np.isfinite(line[name]) for line in lines), name
    assert lines[0]["learning_rate"] == pytest.approx(0.1)
    assert all(line["frames_per_second"] == 2 * line["examples_per_second"] for line in lines)
    assert all(0 <= line["input_wait"] <= 1 for line in lines)

    scores = read_metrics(tmp_path, "validation")
    assert [line["step"] for line in scores] == [2, 4, 6]
    best = min(scores, key=lambda line: line["loss"])["step"]
    assert saved_steps(tmp_path) == sorted({best, 5, 6})

    out = capsys.readouterr().out
    assert "toy starts: 6 steps" in out
    assert f"{sum(x.size for x in jax.tree.leaves(zeros(NETWORK, tiny())['params'])):,}" in out
    assert "FLOP" in out
    assert "step 6/6" in out
    assert "Validation after epoch" in out
    assert "best before" in out
    assert json.loads((tmp_path / "config.json").read_text())["num_steps"] == 6
    model_config, networks = load_networks(tmp_path / "model")
    assert model_config == tiny()
    assert list(networks) == [NETWORK]


def test_a_run_in_two_parts_is_the_run_in_one(data, tmp_path):
    config = toy_config(data, num_steps=6, save_every=3)
    loop.train(config, tmp_path / "whole")
    loop.train(toy_config(data, num_steps=3), tmp_path / "parts")
    loop.train(config, tmp_path / "parts")
    for whole, parts in zip(
        networks_of(tmp_path / "whole"), networks_of(tmp_path / "parts"), strict=True
    ):
        np.testing.assert_array_equal(whole, parts)
    numbers = [
        [{k: line[k] for k in ("step", "loss", "brightness")} for line in read_metrics(w, "train")]
        for w in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert numbers[0] == numbers[1]


def test_a_run_that_is_done_is_left_alone(data, tmp_path, capsys):
    config = toy_config(data, num_steps=2)
    loop.train(config, tmp_path)
    before = networks_of(tmp_path)
    loop.train(config, tmp_path)
    assert "nothing to do" in capsys.readouterr().out
    np.testing.assert_array_equal(before[0], networks_of(tmp_path)[0])


def test_validation_counts_every_example_once(data, tmp_path):
    # Seven clips in batches of two: the last is filled up.
    config = toy_config(data, num_steps=1, eval_every=1, validation_fraction=0.6)
    loop.train(config, tmp_path)
    examples = make_dataset(
        parse_sources(config.data),
        batch_size=1,
        size=64,
        batch_of="pairs",
        split="validation",
        validation_fraction=0.6,
        single_pass=True,
    )
    assert examples.num_examples % 2
    expected = np.mean([batch.source.mean() / 255 for batch, _ in examples])
    (line,) = read_metrics(tmp_path, "validation")
    assert line["brightness"] == pytest.approx(expected, rel=1e-5)


def test_sigterm_saves_and_returns(data, tmp_path, monkeypatch, capsys):
    add = Meter.add

    def add_and_signal(self, step, *rest):
        add(self, step, *rest)
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Meter, "add", add_and_signal)
    loop.train(toy_config(data, num_steps=100), tmp_path)
    assert saved_steps(tmp_path) == [3]
    assert "Received SIGTERM at step 3" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == handler


def test_bad_steps_are_skipped_and_counted_then_stop_the_run(data, tmp_path, capsys):
    config = toy_config(data, num_steps=9, bad_after=4, max_bad_steps=2, save_every=4)
    with pytest.raises(DivergedError) as stopped:
        loop.train(config, tmp_path)
    message = str(stopped.value)
    assert "step 7 is not finite" in message
    assert "loss nan" in message
    assert "voxceleb:id" in message
    assert "max_bad_steps is 2" in message
    assert "\n" not in message
    out = capsys.readouterr().out
    assert "step 5 is not finite" in out
    assert "1 of 2 allowed" in out
    assert saved_steps(tmp_path) == [4]
    # With more patience the run goes on from there.
    loop.train(toy_config(data, num_steps=6, bad_after=4, max_bad_steps=9), tmp_path)
    last = read_metrics(tmp_path, "train")[-1]
    assert (last["step"], last["bad_steps"]) == (6, 2)


def test_changed_fields_are_reported(data, tmp_path, capsys):
    loop.train(toy_config(data, num_steps=1), tmp_path)
    loop.train(toy_config(data, num_steps=2, learning_rate=0.5), tmp_path)
    out = capsys.readouterr().out
    assert "changed since step 1: learning_rate was 0.0002 and is 0.5" in out


def test_another_run_in_the_work_directory_is_refused(data, tmp_path):
    loop.train(toy_config(data, num_steps=1), tmp_path)
    for field, value in {"stage": "stage1", "batch_size": 4, "seed": 1, "size": 32}.items():
        config = toy_config(data, num_steps=2, **{field: value})
        refused(config, tmp_path, f"holds another run: {field} was .* and is .*{value}")


def test_networks_are_taken_from_a_checkpoint_and_handed_on(data, tmp_path):
    given = {name: zeros(name, tiny()) for name in (NETWORK, "discriminator")}
    given[NETWORK] = jax.tree.map(lambda x: x + 0.25, given[NETWORK])
    given["discriminator"] = jax.tree.map(lambda x: x + 0.5, given["discriminator"])
    save_networks(tmp_path / "given", tiny(), given)
    loop.train(
        toy_config(data, num_steps=1, learning_rate=1e-30),
        tmp_path / "first",
        tmp_path / "given",
    )
    # From work directory to work directory.
    config = toy_config(data, num_steps=1, learning_rate=1e-30)
    loop.train(config, tmp_path / "second", tmp_path / "first")
    # And on, from the work directory itself.
    config.num_steps = 2
    loop.train(config, tmp_path / "second")
    _, networks = load_networks(tmp_path / "second" / "model")
    for name, expected in (("discriminator", 0.5), (NETWORK, 0.25)):
        for leaf in jax.tree.leaves(networks[name]):
            np.testing.assert_array_equal(leaf, np.float32(expected))


def test_a_run_does_not_overwrite_the_networks_it_begins_with(data, tmp_path):
    given = {NETWORK: jax.tree.map(lambda x: x + 0.25, zeros(NETWORK, tiny()))}
    (tmp_path / "run").mkdir()
    save_networks(tmp_path / "run" / "model", tiny(), given)
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "model").symlink_to("run/model")
    before = networks_of(tmp_path / "run")
    for name in ("run/model", "run", "run/../run/model/", "link", "model"):
        refused(toy_config(data, num_steps=1), tmp_path / "run", "name another", tmp_path / name)
    for leaf, kept in zip(networks_of(tmp_path / "run"), before, strict=True):
        np.testing.assert_array_equal(leaf, kept)
    # A run that resumes reads no other networks, so that its command may stay the same.
    elsewhere = tmp_path / "elsewhere"
    for steps in (1, 2):
        loop.train(toy_config(data, num_steps=steps), elsewhere, tmp_path / "link")
    assert saved_steps(elsewhere) == [1, 2]


def test_a_run_does_not_overwrite_what_it_did_not_write(data, tmp_path):
    save_networks(tmp_path / "weights", tiny(), {NETWORK: zeros(NETWORK, tiny())})
    save_networks(tmp_path / "model", tiny(), {NETWORK: zeros(NETWORK, tiny())})
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.json").write_text('{"of": "another program"}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for folder in ("weights", "project", "."):
        refused(toy_config(data, num_steps=1), tmp_path / folder, "would overwrite it")
    assert before == {path: path.read_bytes() for path in before}
    # What a run left that was killed before its first checkpoint is its own.
    loop.train(toy_config(data, num_steps=1), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    loop.train(toy_config(data, num_steps=1), tmp_path / "run")


def test_networks_of_another_kind_are_refused(data, tmp_path):
    save_networks(tmp_path / "given", tiny(), {NETWORK: zeros(NETWORK, tiny())})
    config = toy_config(data, num_steps=1, size=128)
    with pytest.raises(UserError, match="image_size is 64 there and 128 here"):
        loop.train(config, tmp_path / "workdir", tmp_path / "given")


def test_bad_input_is_named(data, tmp_path):
    refused(toy_config(data, batch_size=0), tmp_path, "batch_size is 0")
    refused(toy_config(tmp_path / "nowhere"), tmp_path, "looked for .*fomm_crop")
    unnamed = toy_config(data)
    unnamed.data = ""
    refused(unnamed, tmp_path, "no training data was named")
    refused(toy_config(data), tmp_path, "No such checkpoint", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    refused(toy_config(data), tmp_path / "file", "Cannot make the work directory")


def test_a_stage_without_the_networks_it_needs_ends_before_data_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "needed_networks", needed_networks)
    config = stage2.get_config("tiny")
    config.data = f"mead={tmp_path / 'nowhere'}"
    refused(config, tmp_path / "run", "needs trained .*generator: give as init_from")
    save_networks(tmp_path / "given", tiny(), {NETWORK: zeros(NETWORK, tiny())})
    refused(config, tmp_path / "run", "needs trained .*generator: give", tmp_path / "given")
    assert not (tmp_path / "run").exists()
    (tmp_path / "made").mkdir()
    refused(config, tmp_path / "made", "needs trained")
    assert list((tmp_path / "made").iterdir()) == []


def test_bad_clips_end_the_run_or_are_counted(tmp_path, capsys):
    root = write_voxceleb(tmp_path / "data", people=2, clips=2, frames=3)
    (root / "fomm_crop" / "id10000" / "video_1" / "1.png").write_bytes(b"no picture")
    config = toy_config(root, num_steps=6)
    refused(config, tmp_path / "stops", "bad clip voxceleb:id10000/video_1")
    config.on_bad_clip = "skip"
    loop.train(config, tmp_path / "goes on")
    out = capsys.readouterr().out
    assert "1 bad clips" in out
    assert "id10000/video_1" in out


def test_what_a_killed_run_left_is_removed(data, tmp_path):
    loop.train(toy_config(data, num_steps=1), tmp_path)
    (tmp_path / ".model.0123abcd").mkdir()
    loop.train(toy_config(data, num_steps=2), tmp_path)
    assert not list(tmp_path.glob(".model.*"))


@pytest.mark.parametrize(("backend", "options"), [("cpu", True), ("gpu", False), ("tpu", False)])
def test_options_of_the_cpu_compiler_are_given_to_no_other(monkeypatch, backend, options):
    given = {}
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "jit", lambda function, **how: given.update(how))
    compilation.jit_once(lambda: None, make_placement())
    assert bool(given["compiler_options"]) == options
