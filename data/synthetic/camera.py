"""Where a published head pose puts the head in our frames.

`eamm_jax.faces.pose_geometry` says what its numbers mean. The published crops are aligned to a
template of landmarks. The 3DDFA region around that template spans 232 pixels of the 256 of the
crop, so one of its pixels is 1.94 of the crop's; with that, mean pose and template agree to a few
pixels.

Lengths are in half frames, directions those of the picture: x to the right, y down.
"""

from __future__ import annotations

from typing import NamedTuple

REST_SCALE = 4.65e-4
"""Scale of a face that fills the frame as the published crops do (their mean)."""

REST_TX, REST_TY = 60.6, 69.5
"""Translation of a head held straight (line through the published poses at 0 degrees)."""

TX_PER_YAW, TY_PER_PITCH = 0.43, 0.43
"""Translation, in region pixels a degree, that keeps a turning face inside its crop.

The published poses lie on these lines: the crop follows the face, so that the centre of the
head, 0.37 half frames behind it, swings the other way.
"""

REST_TZ = -66.67
"""Seventh number of the published poses; nothing reads it."""

ROI_PIXEL = 1.94 / 128
"""A pixel of the 120x120 region in half frames."""

CENTRE_Y = 0.14
"""Height of the centre of the head in the frame at rest."""


class Pose(NamedTuple):
    """The published numbers."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = REST_SCALE
    tx: float = REST_TX
    ty: float = REST_TY


def held(
    yaw: float, pitch: float, roll: float, zoom: float = 1.0, dx: float = 0.0, dy: float = 0.0
) -> Pose:
    """The pose of a head that turns while its face stays where it is in the frame.

    Args:
        yaw: degrees.
        pitch: degrees.
        roll: degrees.
        zoom: size relative to the usual framing.
        dx: shift to picture right, half frames.
        dy: shift downwards, half frames.
    """
    return Pose(
        yaw,
        pitch,
        roll,
        REST_SCALE * zoom,
        REST_TX + TX_PER_YAW * yaw + dx / ROI_PIXEL,
        REST_TY + TY_PER_PITCH * pitch - dy / ROI_PIXEL,
    )
