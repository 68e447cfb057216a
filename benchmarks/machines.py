"""What predictions suppose of machines that are not here: makers' numbers, and shares of them."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Machine:
    """One device, and what joins it to others of its kind.

    Attributes:
        peak: operations a second of its matrix units, by what is multiplied, as the maker has
            it, without sparsity. float32 is what JAX does with it by default: TF32 on NVIDIA's,
            a single pass of bfloat16 on a TPU.
        memory: bytes a second, as the maker has it.
        sustained: operations a second in training such networks: about a quarter of the peak
            in the first kind above.
        step: seconds of an iteration of a loop that computes next to nothing.
        link: bytes a second of an all-reduce, as NCCL's tests count ("bus bandwidth").
        latency: seconds of the smallest collective.
    """

    name: str
    peak: dict[str, float]
    memory: float
    sustained: float
    step: float
    link: float
    latency: float


# NVLink 3 through NVSwitch.
A100 = Machine(
    "A100, NVLink",
    {"float32": 156e12, "bfloat16": 312e12},
    memory=1.555e12,
    sustained=40e12,
    step=20e-6,
    link=200e9,
    latency=20e-6,
)
# The SXM version; NVLink 4.
H100 = Machine(
    "H100, NVLink",
    {"float32": 494e12, "bfloat16": 989e12},
    memory=3.35e12,
    sustained=120e12,
    step=20e-6,
    link=350e9,
    latency=20e-6,
)
# Four links of 50 GB/s, half of them used.
TPU_V5E = Machine(
    "TPU v5e",
    {"float32": 197e12, "bfloat16": 197e12},
    memory=819e9,
    sustained=50e12,
    step=5e-6,
    link=100e9,
    latency=10e-6,
)
