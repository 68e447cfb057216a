"""Networks that come into a run and go out of it, as checkpoints of `eamm_jax.conversion`.

`--init_from` names a converted checkpoint or the work directory of another stage, which holds
one in `model/`. A run writes its own `model/` with every network it knows of, those that its
stage does not use included, so that stages follow each other by their work directories alone
and `infer.py` finds all it needs in the last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from eamm_jax.conversion.checkpoint import load_checkpoint, load_config, save_checkpoint
from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig
from eamm_jax.training.config import MODEL_FIELDS
from eamm_jax.training.stage import TrainState

PyTree = Any

FOLDER = "model"
"""Inside the work directory."""

_EMOTION_FIELDS = ("emotion.", "inference.emotion_shares")
"""Prefixes of the fields that only the emotion network has."""


def is_in(workdir: str | os.PathLike[str]) -> bool:
    """Whether a work directory holds networks."""
    return (Path(workdir) / FOLDER).is_dir()


class Given:
    """Networks that were trained before, or none."""

    def __init__(self, path: str | os.PathLike[str] | None):
        """Looks at a checkpoint, but does not read its weights yet.

        Args:
            path: a converted checkpoint, a work directory, or None.

        Raises:
            UserError: it is neither.
        """
        self._path = path
        self._folder: Path | None = None
        self._config: ModelConfig | None = None
        if path is not None:
            self._folder = Path(path) / FOLDER if is_in(path) else Path(path)
            self._config = load_config(self._folder)

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
                    f"{there} there and {here} here; choose another --init_from, --config.model "
                    "or --config.size"
                )
        return model_config

    def load(self, model_config: ModelConfig, sharding: jax.sharding.Sharding) -> dict[str, PyTree]:
        """Variables of all networks there are, by name.

        An emotion network with another head than the configured one is left out: it is
        what this run trains anew.

        Args:
            model_config: the networks of the run, from `adapt`.
            sharding: where the arrays are put.
        """
        if self._folder is None:
            return {}
        loaded = load_checkpoint(self._folder, sharding=sharding)[1]
        if model_config != self._config:
            loaded.pop("emo_detector", None)
        return loaded


def of_state(state: TrainState) -> dict[str, PyTree]:
    """Variables of all networks in a state, by name, from the collections down."""
    trained = {
        name: {"params": params, **state.stats.get(name, {})}
        for name, params in state.params.items()
    }
    return {**state.frozen, **trained}


def save(
    workdir: str | os.PathLike[str],
    config: ModelConfig,
    networks: Mapping[str, PyTree],
    report: Mapping[str, Any],
) -> None:
    """Replaces `model/` in a work directory, once the new one is complete.

    Args:
        workdir: of the run.
        config: of the networks.
        networks: variables by name, alike on all processes, which must all call this.
        report: where they come from, for people.
    """
    save_checkpoint(Path(workdir) / FOLDER, config, networks, report=report, overwrite=True)


def remove_unfinished(workdir: str | os.PathLike[str]) -> None:
    """Removes what a killed run left of a `model/` that it was writing."""
    if is_in(workdir):
        for left_over in Path(workdir).glob(f".{FOLDER}.*"):
            shutil.rmtree(left_over, ignore_errors=True)
