"""From clips on disk to batches on the host.

A *source* (`sources`) is a folder in the published layout or the same clips packed into
ArrayRecord; both give the same `Clip`s in the same order. `examples` reads a training example
from a clip, and `dataset` batches examples with Grain: split, shuffled, mixed, sharded over
processes, and resumable. Everything here is NumPy; augmentation runs on the device
(`eamm_jax.ops.augmentation`).
"""

from eamm_jax.input_pipeline.dataset import Batches, describe_skipped, make_dataset
from eamm_jax.input_pipeline.sources import Source, parse_sources

__all__ = ["Batches", "Source", "describe_skipped", "make_dataset", "parse_sources"]
