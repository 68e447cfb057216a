"""The training loop: from a configuration and a work directory to trained networks.

One step function, compiled once, runs on all devices of all processes. Each step gets the key
`fold_in(key of the run, step)`, each batch follows from its number, and a checkpoint holds the
key and the number, so a resumed run equals one that was never stopped. The host stays one step
ahead of the devices: it reads the metrics of a step after it has dispatched the next one.

The work directory holds `checkpoints/` (to resume from), `model/` (the networks, for `infer.py`
and `init_from`), `metrics.jsonl`, `tensorboard/` and `config.json`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output
from eamm_jax.training import networks
from eamm_jax.training.checkpoint import Checkpoints, Saved
from eamm_jax.training.compilation import compile_panel, compile_step, jit_once
from eamm_jax.training.config import as_json, changes
from eamm_jax.training.config import model_config as configured_networks
from eamm_jax.training.data import Validation, open_data, report_skipped
from eamm_jax.training.display import (
    Display,
    describe_run,
    describe_step,
    networks_table,
    validation_table,
)
from eamm_jax.training.distributed import (
    Preemption,
    check_batch_size,
    is_main_process,
    make_placement,
    to_host,
)
from eamm_jax.training.metrics import Meter, MetricWriter
from eamm_jax.training.stage import check_needed, make_stage, needed_networks
from eamm_jax.training.taught import check_detectors
from eamm_jax.training.workdir import Workdir

CONFIG_NAME = "config.json"

KEEP_BEST = 1
"""Checkpoints that are kept for their validation loss, besides the newest."""


def train(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    init_from: str | os.PathLike[str] | None = None,
) -> None:
    """Trains one stage until its last step, or until SIGTERM, and saves.

    If `workdir` contains a checkpoint, training resumes from it and `init_from` is not read.

    Args:
        config: one of `configs/`.
        workdir: created if needed; a folder, or a place on `gs://`. All processes of a run must
            see the same one.
        init_from: networks that were trained before: a converted checkpoint, or the work
            directory of another stage.

    Raises:
        UserError: configuration, data, `init_from` or the content of `workdir` cannot be used.
        DivergedError: more than `max_bad_steps` steps were not finite.
    """
    config = ConfigDict(config)
    with ExitStack() as stack:
        # Devices, and the checkpoint to resume from.
        placement = make_placement()
        check_batch_size(config.batch_size, placement)
        preemption = stack.enter_context(Preemption())
        display = stack.enter_context(Display(active=is_main_process()))
        work = stack.enter_context(Workdir(workdir))
        init_from = work.local(init_from)
        checkpoints = Checkpoints(work.path, keep_last=config.keep, keep_best=KEEP_BEST)
        stack.callback(checkpoints.close)
        resumed = checkpoints.latest
        if resumed is not None:
            for change in changes(checkpoints.config(resumed), config):
                display.line(f"changed since step {resumed}: {change}")
            init_from = work.folder if networks.is_in(work.folder) else init_from
        elif init_from is not None and networks.is_of(work.folder, init_from):
            raise UserError(
                f"the networks of init_from, {init_from}, are those of the work directory "
                f"{workdir}, which has no checkpoint to resume from; training would overwrite "
                "them: name another work directory"
            )
        else:
            _check_replaceable(work.folder)

        given = networks.Given(init_from)
        model_config = given.adapt(configured_networks(config), config)
        check_needed(config.stage, needed_networks(config, model_config), given.names)

        # Data.
        batches = open_data(config, "train")
        stack.callback(batches.close)
        held_out = open_data(config, "validation") if config.validation_fraction else None
        if not config.steps_per_epoch:
            examples = config.num_repeats * batches.num_examples
            config.steps_per_epoch = max(1, examples // config.batch_size)
        total = config.num_steps or config.num_epochs * config.steps_per_epoch

        # Networks and state, created already sharded.
        stage = make_stage(ConfigDict({**config, "num_steps": total}), model_config)
        variables = given.load(model_config, stage.required, placement.replicated)
        if batches.detectors:
            check_detectors(batches.detectors, model_config, to_host(variables["kp_detector"]))
        rng = jax.jit(lambda: jax.random.key(config.seed), out_shardings=placement.replicated)()
        if resumed is None:
            state = jit_once(stage.init, placement)(rng, variables)
        else:
            abstract = placement.abstract(jax.eval_shape(stage.init, rng, variables))
            state, rng, position = checkpoints.restore(
                resumed, abstract, placement.abstract(rng), variables
            )
            batches.set_state(position)
        step = first = resumed or 0
        history = given.provenance.get("from") if resumed else given.provenance
        provenance = {"stage": stage.name, "config": as_json(config), "from": history}
        model = networks.ModelWriter(
            work.folder, model_config, state, variables, provenance, work.publish
        )
        stack.callback(model.close)
        del variables
        display.line(describe_run(stage.name, config, batches, held_out, step, total))
        display.table(networks_table(state))
        if step >= total:
            display.line("nothing to do: the last step is done (raise num_epochs to go on)")
            return

        # The step: one program on all devices. The old state's memory becomes the new one's.
        started = time.monotonic()
        rows, names = next(batches)
        batch = placement.batch(rows)
        train_step = compile_step(stage, placement, state, batch, rng)
        seconds = time.monotonic() - started
        display.line(describe_step(train_step, placement.num_devices, seconds))
        panel = compile_panel(stage, placement)
        validation = Validation(stage, held_out, placement) if held_out else None

        def save(metrics: Mapping[str, float] | None = None) -> None:
            if is_main_process():
                _write_json(work.folder / CONFIG_NAME, as_json(config))
            model.save(state, step, metrics)
            saved = Saved(state, rng, batches.get_state())
            checkpoints.save(step, saved, as_json(config), metrics)

        if resumed is None:
            model.save(state, step)  # so that each training state finds its frozen networks
        writer = MetricWriter(work.folder, first_step=step + 1, active=is_main_process())
        stack.callback(writer.close)
        bad_steps = int(to_host(state.bad_steps))
        meter = Meter(config.max_bad_steps, bad_steps, display.line, config.batch_size)
        display.start(step, total)
        while step < total and not preemption.reached(step):
            if step > first:
                with meter.waiting():
                    rows, names = next(batches)
                    batch = placement.batch(rows)
            state, metrics = train_step(state, batch, rng)
            step += 1
            meter.add(step, metrics, names, batch)
            display.step(step)

            epoch = -(-step // config.steps_per_epoch)
            epoch_ends = _due(step, config.steps_per_epoch)
            last = step == total
            if _due(step, config.log_every) or last:
                values, seconds = meter.report()
                writer.scalars(step, "train", values)
                display.report(step, epoch, values, seconds)
            if _due(step, config.panel_every):
                with meter.pause():
                    writer.image(step, "train/panel", to_host(panel(state, batch)))
            if epoch_ends:
                report_skipped(batches, epoch, display.line)
            scores = None
            if validation and (_due(step, config.eval_every) if config.eval_every else epoch_ends):
                with meter.pause():
                    scores, shown = validation.run(state)
                    writer.scalars(step, "validation", scores)
                    writer.image(step, "validation/panel", to_host(panel(state, shown)))
                    display.table(validation_table(epoch, scores, checkpoints.best_metrics))
            if _due(step, config.save_every) or scores or last:
                with meter.pause():
                    save(scores)
        meter.flush()
        if step < total:
            if step > first:
                save()
            checkpoints.wait()
            model.wait()
            words = "checkpoint saved. Run the same command to resume."
            display.line(f"Received SIGTERM at step {step}: {words}")
        else:
            model.wait()
            where = f"{workdir}/{networks.FOLDER}"
            display.line(f"done: {total} steps; the networks are in {where}")


def _check_replaceable(workdir: Path) -> None:
    """Makes sure that a work directory to start in holds no files that a run did not write.

    Raises:
        UserError: it does, and the run would overwrite them.
    """
    with suppress(OSError, ValueError):
        values = json.loads((workdir / CONFIG_NAME).read_text(encoding="utf-8"))
        if not isinstance(values, dict) or "stage" not in values:
            raise UserError(
                f"{workdir / CONFIG_NAME} is not of a training run, which would overwrite it; "
                "name another work directory"
            )
    if networks.is_in(workdir) and not networks.is_trained(workdir / networks.FOLDER):
        raise UserError(
            f"the model in {workdir / networks.FOLDER} is not of a training run, which would "
            "overwrite it; name another work directory"
        )


def _write_json(path: Path, values: Any) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
