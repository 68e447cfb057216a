"""Image keypoints that are computed once and kept with the data (`data.teach`).

They stand for what the frozen detector finds in the frames of a clip, so they belong to one
detector: its fingerprint is kept with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from eamm_jax.checkpoint import flatten
from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig


def fingerprint(config: ModelConfig, variables: Mapping[str, Any]) -> str:
    """Tells keypoint detectors apart.

    Args:
        config: of the networks.
        variables: of the detector, from the collections down, on the host.
    """
    detector = config.image_size, config.num_keypoints, config.to_dict()["keypoint_detector"]
    digest = hashlib.sha256(json.dumps(detector, sort_keys=True).encode())
    for path, array in sorted(flatten(variables).items()):
        digest.update(path.encode() + np.asarray(array, np.float32).tobytes())
    return digest.hexdigest()[:16]


def check_detectors(
    detectors: Mapping[str, str], config: ModelConfig, variables: Mapping[str, Any]
) -> None:
    """Makes sure that keypoints which are read were found by the detector of this run.

    Args:
        detectors: fingerprints by source.
        config: of the networks.
        variables: of the detector, on the host.

    Raises:
        UserError: they were found by another.
    """
    ours = fingerprint(config, variables)
    for source, theirs in detectors.items():
        if theirs != ours:
            raise UserError(
                f"the keypoints kept with {source} were found by the detector {theirs}, and this "
                f"run has {ours}; run python -m data.teach with its networks, or set taught to "
                "False"
            )
