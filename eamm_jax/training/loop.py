"""The training loop: from a configuration and a work directory to trained networks.

One step function, compiled once, runs on all devices of all processes. Each step gets the key
`fold_in(key of the run, step)`, each batch follows from its number, and a checkpoint holds
where both stand; so a run that was killed goes on as if it had not been. The host stays one
step ahead of the devices: it reads the metrics of a step when it has given out the next one.

The work directory holds `checkpoints/` (to go on from), `model/` (the networks, as `infer.py`
and `--init_from` read them), `metrics.jsonl`, `tensorboard/` and `config.json`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline import Batches, make_dataset, parse_sources
from eamm_jax.input_pipeline.dataset import describe_skipped
from eamm_jax.io.files import atomic_output
from eamm_jax.training import networks, summary
from eamm_jax.training.checkpoint import Checkpoints, Saved
from eamm_jax.training.config import model_config as configured_networks
from eamm_jax.training.distributed import (
    Placement,
    check_batch_size,
    is_main_process,
    make_placement,
    sum_over_processes,
    to_host,
)
from eamm_jax.training.meter import Meter
from eamm_jax.training.metric_writer import FileMetricWriter, MetricWriter, NoMetricWriter
from eamm_jax.training.preemption import Preemption
from eamm_jax.training.progress import Display, validation_table
from eamm_jax.training.stage import Batch, Metrics, PyTree, Stage, TrainState
from eamm_jax.training.stages import make_stage
from eamm_jax.types import Array

CONFIG_NAME = "config.json"

FIXED_FIELDS = ("stage", "model", "size", "batch_size", "seed")
"""Fields that a run cannot change when it goes on; others may, and are reported."""

KEEP_BEST = 1
"""Checkpoints that are kept for their validation loss, besides the newest."""


def train(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    init_from: str | os.PathLike[str] | None = None,
) -> None:
    """Trains one stage until its last step, or until SIGTERM, and saves.

    A work directory that holds a checkpoint is gone on with; then `init_from` is not read.

    Args:
        config: one of `configs/`.
        workdir: made if it is not there; all processes of a run must see the same one.
        init_from: networks that were trained before: a converted checkpoint, or the work
            directory of another stage.

    Raises:
        UserError: configuration, data, `init_from` or what is in `workdir` cannot be used.
        DivergedError: more than `max_bad_steps` steps were not finite.
    """
    workdir = Path(workdir)
    config = ConfigDict(config)
    with ExitStack() as stack:
        # Devices, and what there is to go on from.
        placement = make_placement()
        check_batch_size(config.batch_size, placement)
        preemption = stack.enter_context(Preemption())
        display = stack.enter_context(Display(active=is_main_process()))
        _make_workdir(workdir)
        checkpoints = Checkpoints(workdir, keep_last=config.keep, keep_best=KEEP_BEST)
        stack.callback(checkpoints.close)
        resumed = checkpoints.latest
        if resumed is not None:
            for change in _changes(checkpoints.config(resumed), config, workdir):
                display.line(f"changed since step {resumed}: {change}")
            init_from = workdir if networks.is_in(workdir) else init_from

        # Data.
        batches = _open_data(config, "train")
        stack.callback(batches.close)
        validation = _open_data(config, "validation") if config.validation_fraction else None
        if validation is not None:
            stack.callback(validation.close)
        if not config.steps_per_epoch:
            examples = config.num_repeats * batches.num_examples
            config.steps_per_epoch = max(1, examples // config.batch_size)
        total = config.num_steps or config.num_epochs * config.steps_per_epoch

        # Networks and state, made where they stay: on all devices.
        given = networks.Given(init_from)
        model_config = given.adapt(configured_networks(config), config)
        stage = make_stage(_with(config, num_steps=total), model_config)
        variables = given.load(model_config, placement.replicated)
        rng = jax.jit(lambda: jax.random.key(config.seed), out_shardings=placement.replicated)()
        if resumed is None:
            state = _jit_once(stage.init, placement)(rng, variables)
        else:
            abstract = placement.abstract(jax.eval_shape(stage.init, rng, variables))
            state, rng, position = checkpoints.restore(resumed, abstract, placement.abstract(rng))
            batches.set_state(position)
        step = first = resumed or 0
        in_state = networks.of_state(state)
        others = to_host({n: v for n, v in variables.items() if n not in in_state})
        del variables, in_state
        _describe(display, config, stage, state, batches, validation, placement, (step, total))
        if step >= total:
            display.line("nothing to do: the last step is done (--config.num_epochs says more)")
            return

        # The step.
        started = time.monotonic()
        rows, names = next(batches)
        batch = placement.batch(rows)
        train_step = _compile_step(stage, placement, state, batch, rng)
        compile_seconds = time.monotonic() - started
        cost = summary.step_cost(train_step)
        display.line(summary.describe_cost(cost, placement.num_devices, compile_seconds))
        eval_step = _jit_eval(stage, placement)
        panel = jax.jit(_bytes_panel(stage), out_shardings=placement.replicated)

        def save(metrics: Mapping[str, float] | None = None) -> None:
            report = {"stage": stage.name, "step": step, "validation": metrics}
            known = {**others, **networks.of_state(state)}
            networks.save(workdir, model_config, known, report)
            if is_main_process():
                _write_json(workdir / CONFIG_NAME, _as_json(config))
            saved = Saved(state, rng, batches.get_state())
            checkpoints.save(step, saved, _as_json(config), metrics)

        writer = _metric_writer(workdir, step + 1)
        stack.callback(writer.close)
        meter = Meter(
            config.max_bad_steps, int(to_host(state.bad_steps)), display.line, config.batch_size
        )
        display.start(step, total)
        meter.start()
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
                _report_skipped(batches, epoch, display)
            scores = None
            if validation and (_due(step, config.eval_every) if config.eval_every else epoch_ends):
                with meter.pause():
                    scores, shown = _evaluate(eval_step, state, validation, placement)
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
            display.line(f"told to end after step {step}: saved; run the same command to go on")
        else:
            display.line(f"done: {total} steps; the networks are in {workdir / networks.FOLDER}")


def _make_workdir(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the work directory {workdir}: {error.strerror}") from None
    if not os.access(workdir, os.W_OK | os.X_OK):
        raise UserError(f"Cannot write to the work directory {workdir}: permission denied")


def _with(config: ConfigDict, **fields: Any) -> ConfigDict:
    """A copy with some fields changed."""
    copy = ConfigDict(config)
    copy.update(fields)
    return copy


def _as_json(config: ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))


def _write_json(path: Path, values: Any) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _changes(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> list[str]:
    """What differs from the configuration that a checkpoint was saved with.

    Raises:
        UserError: something that must not.
    """
    now = _as_json(config)
    # 0 stands for what the data gives, which was filled in before it was saved.
    names = [name for name in saved.keys() | now.keys() if name != "steps_per_epoch"]
    changes = {
        name: f"{name} was {saved.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(names)
        if saved.get(name) != now.get(name)
    }
    for name in FIXED_FIELDS:
        if name in changes:
            raise UserError(
                f"{workdir} holds another run: {changes[name]}; give what it was started with "
                "to go on with it, or another --workdir to start anew (with --init_from "
                "from its networks)"
            )
    return list(changes.values())


def _open_data(config: ConfigDict, split: str) -> Batches:
    return make_dataset(
        parse_sources(config.data),
        batch_size=config.batch_size,
        size=config.size,
        batch_of="pairs" if config.stage == "stage0" else "clips",
        split="train" if split == "train" else "validation",
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        single_pass=split == "validation",
        per_identity=config.get("per_identity", False),
        emotions=config.emotions,
        frame_stride=config.get("frame_stride", 1),
        with_truth=config.get("landmark_weight", 0.0) > 0,
        on_bad_clip=config.on_bad_clip,
        threads=config.threads,
        workers=config.workers if split == "train" else 0,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _describe(
    display: Display,
    config: ConfigDict,
    stage: Stage,
    state: TrainState,
    batches: Batches,
    validation: Batches | None,
    placement: Placement,
    steps: tuple[int, int],
) -> None:
    """What the run will do, before the long wait for the compiler."""
    step, total = steps
    device = jax.devices()[0]
    begins = f"goes on after step {step}" if step else "starts"
    held_out = f"{validation.num_examples:,}" if validation else "none"
    display.line(
        f"{stage.name} {begins}: {total:,} steps, {config.steps_per_epoch:,} an epoch; batches "
        f"of {config.batch_size} on {placement.num_devices} x {device.device_kind} "
        f"({jax.process_count()} processes); examples: {batches.num_examples:,} to train on, "
        f"{held_out} to validate on"
    )
    display.table(summary.networks_table(state))


def _jit_once(
    function: Callable[..., TrainState], placement: Placement
) -> Callable[..., TrainState]:
    """Compiles in a hurry: what runs once is not worth the time that optimising it takes."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, out_shardings=placement.replicated, compiler_options=options)


def _compile_step(
    stage: Stage, placement: Placement, state: TrainState, batch: Batch, rng: Array
) -> jax.stages.Compiled:
    """The stage's step, with the key of each step made from that of the run."""

    def step(state: TrainState, batch: Batch, rng: Array) -> tuple[TrainState, Metrics]:
        return stage.train_step(state, batch, jax.random.fold_in(rng, state.step))

    # The old state's memory becomes the new one's.
    jitted = jax.jit(step, donate_argnums=0, out_shardings=placement.replicated)
    return jitted.lower(state, batch, rng).compile()


EvalStep = Callable[[TrainState, Batch, Array], tuple[Metrics, Array]]


def _jit_eval(stage: Stage, placement: Placement) -> EvalStep:
    """Sums of the metrics over the rows of a batch that count, and how many do."""

    def evaluate(state: TrainState, batch: Batch, counts: Array) -> tuple[Metrics, Array]:
        def score(row: PyTree) -> Metrics:
            return stage.eval_step(state, jax.tree.map(lambda x: x[None], row))

        # Row by row, so that rows which only fill up the batch can be left out.
        metrics = jax.vmap(score)(batch)
        sums = {name: jnp.sum(jnp.where(counts, v, 0.0)) for name, v in metrics.items()}
        return sums, jnp.sum(counts)

    return jax.jit(evaluate, out_shardings=placement.replicated)


def _evaluate(
    eval_step: EvalStep, state: TrainState, validation: Batches, placement: Placement
) -> tuple[dict[str, float], Batch]:
    """Means of the metrics over all validation examples, and the first batch to look at."""
    validation.reset()
    totals: dict[str, float] = {}
    count = 0
    seen: list[Batch] = []
    for rows, names in validation:
        batch = placement.batch(rows)
        seen = seen or [batch]
        counts = placement.batch(np.array([bool(name) for name in names]))
        sums, counted = to_host(eval_step(state, batch, counts))
        count += int(counted)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    validation.close()
    return {name: value / count for name, value in totals.items()}, seen[0]


def _bytes_panel(stage: Stage) -> Callable[[TrainState, Batch], Array]:
    """The stage's rows of pictures as one, in bytes."""

    def panel(state: TrainState, batch: Batch) -> Array:
        rows = stage.panel(state, batch)
        return jnp.round(255 * jnp.concatenate(list(rows))).astype(jnp.uint8)

    return panel


def _report_skipped(batches: Batches, epoch: int, display: Display) -> None:
    """Counts the bad clips of all processes; names the first few of this one."""
    skipped = batches.end_epoch()
    count = sum_over_processes(len(skipped))
    if count:
        display.line(f"epoch {epoch}: {count} bad clips; here: {describe_skipped(skipped)}")


def _metric_writer(workdir: Path, first_step: int) -> MetricWriter:
    if not is_main_process():
        return NoMetricWriter()
    networks.remove_unfinished(workdir)
    return FileMetricWriter(workdir, first_step=first_step)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
