"""Networks that a run starts from and those that it writes, as models of `eamm_jax.checkpoint`.

A run starts from a converted model or from the work directory of another stage, which holds a model
in `model/`. It writes its own `model/` with every network it knows of, so that stages follow each
other by their work directories alone and the last one has all that inference needs. A run that
resumes takes its frozen networks from there: training states hold only what changes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from eamm_jax import __version__
from eamm_jax.checkpoint import (
    WORKDIR_MODEL,
    load_config,
    load_networks,
    load_provenance,
    save_networks,
    stored_networks,
)
from eamm_jax.conversion.installed import load_vgg16
from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig
from eamm_jax.training.config import MODEL_FIELDS
from eamm_jax.training.distributed import is_main_process
from eamm_jax.training.stage import TrainState

PyTree = Any

FOLDER = WORKDIR_MODEL
"""Inside the work directory."""

_EMOTION_FIELDS = ("emotion.", "inference.emotion_shares")
"""Prefixes of the fields that only the emotion network has."""


def is_in(workdir: str | os.PathLike[str]) -> bool:
    """Whether a work directory holds networks."""
    return (Path(workdir) / FOLDER).is_dir()


def is_of(workdir: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Whether a path, of a model or of a work directory, names a work directory's own networks."""
    own = (Path(workdir) / FOLDER).resolve()
    return is_in(workdir) and own in (Path(path).resolve(), (Path(path) / FOLDER).resolve())


def is_trained(folder: str | os.PathLike[str]) -> bool:
    """Whether a training run wrote a model; true, too, where nobody could read it."""
    try:
        return "stage" in load_provenance(folder)
    except UserError:
        return True


class Given:
    """Networks that were trained before, or none."""

    _INSTALLED = ("vgg16",)

    def __init__(self, path: str | os.PathLike[str] | None):
        """Reads the configuration of a model, but not its weights yet.

        Args:
            path: a model, a work directory, or None.

        Raises:
            UserError: it is neither.
        """
        self._path = path
        self._config = None if path is None else load_config(path)
        self.provenance = {} if path is None else load_provenance(path)

    @property
    def names(self) -> tuple[str, ...]:
        """The networks there are, with the one that comes with an installed package."""
        stored = () if self._path is None else stored_networks(self._path)
        return (*stored, *self._INSTALLED)

    def adapt(self, model_config: ModelConfig, config: ConfigDict) -> ModelConfig:
        """The networks of a run: as its stage is configured, as far as it says.

        The emotion network's fields are those of the given networks, unless the stage's
        configuration has them.

        Args:
            model_config: what the stage's configuration asks for.
            config: that configuration.

        Raises:
            UserError: the given networks are of another kind.
        """
        if self._config is None:
            return model_config
        given = self._config.flat()
        configured = {there for here, there in MODEL_FIELDS.items() if here in config}
        emotion = {
            name: value
            for name, value in given.items()
            if name.startswith(_EMOTION_FIELDS) and name not in configured
        }
        model_config = model_config.replace(emotion)
        for name, here in model_config.flat().items():
            there = given[name]
            if there != here and not name.startswith(_EMOTION_FIELDS):
                raise UserError(
                    f"the networks of {self._path} differ from the configured ones: {name} is "
                    f"{there} there and {here} here; choose another init_from, config.model or "
                    "config.size"
                )
        return model_config

    def load(
        self,
        model_config: ModelConfig,
        needed: Collection[str],
        sharding: jax.sharding.Sharding,
    ) -> dict[str, PyTree]:
        """Variables of all networks there are, by name.

        An emotion network with another head than the configured one is left out: it is
        what this run trains anew. VGG-16 comes from the package that is installed.

        Args:
            model_config: the networks of the run, from `adapt`.
            needed: networks that the run cannot do without.
            sharding: where the arrays are put.

        Raises:
            UserError: VGG-16 is needed and neither given nor installed.
        """
        loaded = {} if self._path is None else load_networks(self._path)[1]
        if model_config != self._config:
            loaded.pop("emo_detector", None)
        if "vgg16" in needed and "vgg16" not in loaded:
            loaded["vgg16"] = load_vgg16()
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), loaded)


class ModelWriter:
    """Keeps `model/` in a work directory up to date, in the background.

    It holds every network that the run knows of, whether its stage trains, freezes or does not use
    it. What is not trained is copied to the host once. Only the main process writes.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        config: ModelConfig,
        state: TrainState,
        variables: Mapping[str, PyTree],
        provenance: Mapping[str, Any],
        then: Callable[[], None] = lambda: None,
    ):
        """Takes what stays the same.

        Args:
            workdir: of the run.
            config: of the networks.
            state: of the training; tells which networks are trained.
            variables: of all networks that were given, by name.
            provenance: where the model comes from, apart from step and scores.
            then: called whenever a model is written, in the background, too.
        """
        if is_main_process():
            _remove_unfinished(workdir)
        self._folder, self._config = Path(workdir) / FOLDER, config
        self._provenance = {"made_by": f"eamm_jax {__version__}", "kind": "training", **provenance}
        others = {name: v for name, v in variables.items() if name not in state.params}
        self._fixed = _copies(others) if is_main_process() else {}
        self._then = then
        self._executor = ThreadPoolExecutor(1, "model-writer")
        self._pending: Future[None] | None = None

    def save(
        self, state: TrainState, step: int, validation: Mapping[str, float] | None = None
    ) -> None:
        """Starts writing, after waiting for the write before it; the state may then be donated.

        Args:
            state: alike on all processes.
            step: optimizer steps taken.
            validation: scores at this step, if there was a validation.

        Raises:
            UserError: the write before failed.
        """
        self.wait()
        if not is_main_process():
            return
        self._pending = self._executor.submit(
            self._write,
            {**self._fixed, **_copies(state.trained())},
            {**self._provenance, "step": step, "validation": validation},
        )

    def _write(self, variables: PyTree, provenance: Mapping[str, Any]) -> None:
        save_networks(self._folder, self._config, variables, provenance=provenance, overwrite=True)
        self._then()

    def wait(self) -> None:
        """Returns when the model is on disk.

        Raises:
            UserError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits, and ends the background thread."""
        try:
            self.wait()
        finally:
            self._executor.shutdown()


def _copies(networks: PyTree) -> PyTree:
    """Copies on the host of replicated arrays, which do not change when those are donated."""
    return jax.tree.map(lambda x: np.array(x.addressable_data(0)), networks)


def _remove_unfinished(workdir: str | os.PathLike[str]) -> None:
    """Removes what a killed run left of a `model/` that it was writing."""
    if is_in(workdir):
        for left_over in Path(workdir).glob(f".{FOLDER}.*"):
            shutil.rmtree(left_over, ignore_errors=True)
