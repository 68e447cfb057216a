"""Fits the head model to a portrait: pose, identity and expression by the 68 landmarks.

Pose and shape take turns. The pose is a least-squares fit; for a pose the landmarks are nearly
linear in the modes, so that those are a bounded ridge regression. What remains is removed by a
smooth warp of the head in the plane of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy.interpolate import RBFInterpolator
from scipy.optimize import least_squares

from data.synthetic import camera
from data.synthetic.camera import Pose
from data.synthetic.heads import figure, kernels
from data.synthetic.heads.expression import lip_gap
from data.synthetic.heads.mesh import Mesh, smoothstep
from data.synthetic.heads.person import seat_teeth

_SHAPES = (
    *("jawOpen", "mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthLeft", "mouthRight"),
    *(
        f"{name}_{side}"
        for name in (
            *("mouthSmile", "mouthFrown", "mouthUpperUp", "mouthLowerDown", "mouthStretch"),
            *("browInnerUp", "browDown", "browOuterUp", "eyeBlink", "eyeSquint", "eyeWide"),
        )
        for side in "LR"
    ),
)
"""Expression shapes that a portrait may show."""

_PIXELS = 128
"""Half a frame, in which residuals are counted."""

_MODE_PRIOR, _SHAPE_PRIOR = 0.9, 2.5
"""Pixels that a standard deviation of an identity mode and a full expression shape cost."""

_LARGEST_MODE, _LARGEST_SHAPE = 2.5, 0.7

_ROUNDS = 8

_STEP = 0.02
"""Of finite differences, in units of `steps`."""

_JAW, _EYES, _INNER_LIPS = slice(0, 17), slice(36, 48), slice(60, 68)


class Fit(NamedTuple):
    """The head in a portrait.

    Attributes:
        shape: at rest, of the usual size.
        weights: of the expression shapes in the portrait.
        pose: in the portrait.
        error: root mean square distance of the landmarks before the warp, in frames of 256.
    """

    shape: Float32[np.ndarray, "v 3"]
    weights: Float32[np.ndarray, " expressions"]
    pose: Pose
    error: float


def fit(mesh: Mesh, marks: Float[np.ndarray, "68 2"], distance: float, drop: float) -> Fit:
    """Fits the head model.

    Args:
        mesh: of the head model.
        marks: landmarks in the frame, (x, y) in [-1, 1].
        distance: of the camera.
        drop: how far the upper teeth hang below the line between the lips.
    """
    model, vertices = mesh.model, mesh.model.landmarks
    names = [mesh.shape(name) for name in _SHAPES]
    weight = np.ones(68)
    weight[_JAW], weight[_EYES], weight[_INNER_LIPS] = 0.35, 1.4, 1.3
    near = np.unique(np.concatenate([vertices, *mesh.contour]))
    where = {int(v): n for n, v in enumerate(near)}
    marked = np.array([where[int(v)] for v in vertices])
    contour = [np.array([where[int(v)] for v in path]) for path in mesh.contour]
    mean, modes = model.neutral[near], model.identity[:, near]
    shapes = model.expression[names][:, near]
    inner = marked[17:]
    centre = mean[inner].mean(0)
    spread = np.linalg.norm(mean[inner] - centre)

    def head(a: np.ndarray) -> tuple[np.ndarray, np.floating, np.ndarray]:
        """The head at rest of the usual size (as rendered people are), factor and shift."""
        points = mean + np.tensordot(a, modes, 1)
        here = points[inner].mean(0)
        factor = spread / np.linalg.norm(points[inner] - here)
        shift = centre - factor * here
        return factor * points + shift, factor, shift

    def seen(points: np.ndarray, pose: Pose) -> np.ndarray:
        placed = figure.place(points, np.ones(len(points)), figure.stance(pose))
        return _PIXELS * figure.project(placed, distance)

    wanted = _PIXELS * marks
    start = camera.held(0.0, 0.0, 0.0)
    steps = np.array([10, 10, 10, 0.1 * camera.REST_SCALE, 5, 5])
    pose, a, e = start, np.zeros(len(modes)), np.zeros(len(names))
    chosen = marked
    for _ in range(_ROUNDS):
        rest, factor, shift = head(a)
        points = rest + np.tensordot(e, shapes, 1)

        def off(x: np.ndarray, at: np.ndarray = points[chosen]) -> np.ndarray:
            away = seen(at, Pose(*(np.array(start) + steps * x))) - wanted
            return (weight[:, None] * away).ravel()

        def slopes(x: np.ndarray, off: Callable[[np.ndarray], np.ndarray] = off) -> np.ndarray:
            # Steps that single precision, in which heads are placed, can tell apart.
            moves = _STEP * np.eye(6)
            return np.stack([(off(x + d) - off(x - d)) / (2 * _STEP) for d in moves], 1)

        x = least_squares(off, (np.array(pose) - start) / steps, slopes).x
        pose = Pose(*(float(value) for value in np.array(start) + steps * x))
        chosen = figure.slid(seen(points, pose), marked, contour)
        stood = figure.stance(pose)
        at = points[chosen]
        depth = figure.place(at, np.ones(68), stood)[:, 2]
        scale = distance / (distance + figure.FACE_DEPTH - depth) * _PIXELS / figure.HALF_FRAME
        turn = stood.zoom * stood.turn[:2] * np.array([[1], [-1]])
        basis = np.concatenate([factor * modes[:, chosen], shapes[:, chosen]])
        columns = scale[:, None] * (basis @ turn.T) * weight[:, None]
        plain = factor * mean[chosen] + shift
        target = weight[:, None] * (wanted - seen(plain, pose))
        prior = np.concatenate([np.full(len(a), _MODE_PRIOR), np.full(len(e), _SHAPE_PRIOR)])
        found = _ridge(columns.reshape(len(basis), -1).T, target.ravel(), prior, len(a))
        a, e = found[: len(a)], found[len(a) :]
    _, factor, shift = head(a)
    shape = factor * (model.neutral + np.tensordot(a.astype(np.float32), model.identity, 1)) + shift
    weights = np.zeros(len(model.expression), np.float32)
    weights[names] = e
    own = shape + np.tensordot(weights, model.expression, 1)
    left = seen(own[near][figure.slid(seen(own[near], pose), marked, contour)], pose) - wanted
    error = float(np.sqrt((left**2).sum(1).mean()))
    own = _warped(mesh, own, marks, pose, distance)
    shape, weights = _at_rest(mesh, own, weights)
    seat_teeth(mesh, shape, drop)
    return Fit(shape.astype(np.float32), weights, pose, error)


def _ridge(
    columns: Float[np.ndarray, "m n"],
    target: Float[np.ndarray, " m"],
    prior: Float[np.ndarray, " n"],
    modes: int,
) -> Float[np.ndarray, " n"]:
    """Regularized least squares; coefficients after the first `modes` are not negative."""
    square = columns.T @ columns + np.diag(prior**2)
    right, free = columns.T @ target, np.ones(len(prior), bool)
    found = np.zeros(len(prior))
    for _ in range(4):
        found[:] = 0
        found[free] = np.linalg.solve(square[np.ix_(free, free)], right[free])
        free[modes:] &= found[modes:] > 0
    found[:modes] = np.clip(found[:modes], -_LARGEST_MODE, _LARGEST_MODE)
    found[modes:] = np.clip(found[modes:], 0, _LARGEST_SHAPE)
    return found


def _warped(
    mesh: Mesh,
    own: Float[np.ndarray, "v 3"],
    marks: Float[np.ndarray, "68 2"],
    pose: Pose,
    distance: float,
) -> Float[np.ndarray, "v 3"]:
    """Moves the head in the plane of the picture until its landmarks are where they are seen."""
    model, stood = mesh.model, figure.stance(pose)
    far = np.array([(x, y) for x in (-1.3, 0, 1.3) for y in (-1.3, 0, 1.3) if x or y])
    front = smoothstep(-2, 3, model.neutral[:, 2])
    for _ in range(2):
        placed = figure.place(own, np.ones(len(own)), stood)
        xy = figure.project(placed, distance)
        chosen = figure.slid(xy, model.landmarks, mesh.contour)
        gap = marks - xy[chosen]
        gap[_JAW] *= 0.7
        warp = RBFInterpolator(
            np.concatenate([xy[chosen], far]),
            np.concatenate([gap, np.zeros_like(far)]),
            kernel="thin_plate_spline",
            smoothing=1e-3,
        )
        moved = warp(xy) * front[:, None]
        for name in ("eyeball_left", "eyeball_right"):
            part = model.parts[name].vertices
            moved[part] = moved[part].mean(0)
        scale = distance / (distance + figure.FACE_DEPTH - placed[:, 2]) / figure.HALF_FRAME
        across = np.column_stack([moved * [1, -1] / scale[:, None], np.zeros(len(own))])
        own = own + across @ stood.turn / stood.zoom
    return own


def _at_rest(
    mesh: Mesh, own: Float[np.ndarray, "v 3"], weights: Float32[np.ndarray, " expressions"]
) -> tuple[Float[np.ndarray, "v 3"], Float32[np.ndarray, " expressions"]]:
    """The head without the expression of the portrait, lips closed, and that expression."""
    model = mesh.model
    shape = own.astype(np.float32)
    kernels.add_shapes(shape, model.expression, -weights)
    jaw = mesh.shape("jawOpen")
    gap = lip_gap(mesh, np.stack([shape, model.neutral, model.expression[jaw]]))
    more = (gap[0] - gap[1]) / gap[2]
    weights = weights.copy()
    weights[jaw] += more
    return shape - more * model.expression[jaw], weights
