"""A head in any expression and pose: where its points are, and the ground truth of a picture.

The pose is the published one (see `camera`). A perspective camera looks at the head from some
distance; at the depth of the face its scale is the pose's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Float32, Int32, UInt8

from data.synthetic import camera
from data.synthetic.camera import Pose
from data.synthetic.controls import Control, Expression
from data.synthetic.heads import kernels
from data.synthetic.heads.expression import GAZE_PITCH, GAZE_YAW, Muscles
from data.synthetic.heads.looks import Look
from data.synthetic.heads.mesh import EYE_CENTRES, Mesh
from eamm_jax.faces.pose_geometry import rotation_matrix
from eamm_jax.input_pipeline.clips import REGION_PIXELS

HALF_FRAME = 14.2
"""Centimetres of the head model in half a frame at the usual scale: the fit says 14.8, and faces as
large as the template of the published crops need this."""

ORIGIN = np.array([0.0, 0.88, 0.15], np.float32)
"""Centre of the published head on the head model, from a fit of its landmarks to the generic face
(`eamm_jax.faces.generic_face`)."""

PIVOT = np.array([0.0, -3.5, -1.0], np.float32)
"""Where the head turns on the neck."""

BODY_TURN = 0.1
"""Share of the head's turn that shoulders follow: in portraits hardly any."""

FACE_DEPTH = 8.0
"""Depth of the plane that keeps the pose's scale, from `ORIGIN`."""

EYES = (kernels.EYE_LEFT, kernels.EYE_RIGHT)

CORNEA = 1.72
"""Radius of its front."""


class Stance(NamedTuple):
    """Where a pose puts a head.

    Attributes:
        turn: of the head.
        body: turn of the body.
        zoom: scale.
        neck: where the neck's pivot is in the world.
    """

    turn: Float32[np.ndarray, "3 3"]
    body: Float32[np.ndarray, "3 3"]
    zoom: float
    neck: Float32[np.ndarray, " 3"]


class Shown(NamedTuple):
    """A picture, and what its pixels show.

    Attributes:
        picture: RGB.
        regions: of the middle of each square of the picture, as `eamm_jax.types.Region`.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    regions: UInt8[np.ndarray, "64 64"]


class Formed(NamedTuple):
    """A head with an expression, not yet posed.

    Attributes:
        weights: of the expression shapes.
        points: of the model's vertices.
        eye: vertices of eyeballs from their centres, before they turn.
    """

    weights: Float32[np.ndarray, " expressions"]
    points: Float32[np.ndarray, "v 3"]
    eye: Float32[np.ndarray, "v 3"]


class Figure(ABC):
    """One head.

    Attributes:
        mesh: that everybody shares.
        look: who it is.
        shape: the head at rest.
        muscles: its expressions.
        eye_centres: about which the eyeballs turn.
        eye_axes: of the irises at a gaze of 0.
    """

    def __init__(
        self,
        mesh: Mesh,
        look: Look,
        shape: Float32[np.ndarray, "v 3"],
        vertices: Int32[np.ndarray, " 68"],
    ):
        """Prepares the truth.

        Args:
            mesh: of the head model.
            look: who it is; of it, expressions and distance of the camera are read here.
            shape: at rest.
            vertices: of the landmarks.
        """
        self.mesh, self.look, self.shape = mesh, look, shape
        self.muscles = Muscles(mesh, look)
        base = [mesh.model.neutral[mesh.eyeball(k)].mean(0) for k in EYES]
        here = [shape[mesh.eyeball(k)].mean(0) for k in EYES]
        self.eye_centres = EYE_CENTRES + np.array(here) - np.array(base)
        self.eye_axes = np.stack(
            [
                _bulge(shape[mesh.eyeball(k)] - c)
                for k, c in zip(EYES, self.eye_centres, strict=True)
            ]
        ).astype(np.float32)
        # The vertices that landmarks are taken from, with their shapes.
        self._marked = np.unique(np.concatenate([vertices, *mesh.contour]))
        self._marked_shapes = np.ascontiguousarray(mesh.model.expression[:, self._marked])
        where = {int(v): n for n, v in enumerate(self._marked)}
        self._landmarks = np.array([where[int(v)] for v in vertices])
        self._contour = [np.array([where[int(v)] for v in path]) for path in mesh.contour]

    @abstractmethod
    def shown(self, row: Expression, pose: Pose, size: int, moment: int) -> Shown:
        """Renders frame number `moment` with `size` rows and columns."""

    def picture(
        self, row: Expression, pose: Pose, size: int, moment: int
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture alone."""
        return self.shown(row, pose, size, moment).picture

    def flows(
        self, moments: Sequence[tuple[Expression, Pose]], size: int
    ) -> Float16[np.ndarray, "t t 64 64 2"]:
        """For frames n and m, where in frame m that is which each square of frame n shows.

        (x, y) in [-1, 1]; NaN where that is not known: here, everywhere.
        """
        shape = (len(moments), len(moments), REGION_PIXELS, REGION_PIXELS, 2)
        return np.full(shape, np.nan, np.float16)

    def limited(self, poses: list[Pose]) -> list[Pose]:
        """Poses that the person can be shown in, as near as can be to those given: here, all."""
        return poses

    def landmarks(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "68 2"]:
        """The 68 landmarks in dlib's sense, (x, y) in [-1, 1].

        The contour follows the visible edge of the face where the head turns away.
        """
        points = self.shape[self._marked].copy()
        kernels.add_shapes(points, self._marked_shapes, self.muscles.weights(row))
        bound = self.mesh.bound[self._marked]
        xy = self.project(place(points, bound, stance(pose)))
        return xy[slid(xy, self._landmarks, self._contour)].astype(np.float32)

    def pupils(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "2 2"]:
        """Where the pupils are, picture left first, lids open or not, as `landmarks`."""
        points = self.eye_centres + CORNEA * self.eye_axes @ gaze_turn(row).T
        placed = place(points.astype(np.float32), np.ones(2, np.float32), stance(pose))
        return self.project(placed)[::-1].astype(np.float32)

    def opening(self, row: Expression) -> float:
        """Gap between the lips of the face seen frontally, in half frames."""
        return self.muscles.opening(self.muscles.weights(row)) / HALF_FRAME

    def formed(self, row: Expression) -> Formed:
        """The head with an expression, and with the eyes turned."""
        mesh, weights = self.mesh, self.muscles.weights(row)
        points = self.shape.copy()
        kernels.add_shapes(points, mesh.model.expression, weights)
        tongue, share = mesh.tongue
        raised = float(np.clip(row[Control.TONGUE], 0, 1))
        points[tongue, 1] += 0.9 * raised * share
        points[tongue, 2] += 0.35 * raised * share
        return Formed(weights, points, self.turn_eyes(points, gaze_turn(row)))

    def turn_eyes(
        self, points: Float32[np.ndarray, "v 3"], turn: Float32[np.ndarray, "3 3"]
    ) -> Float32[np.ndarray, "v 3"]:
        """Turns the eyeballs in place.

        Returns:
            Their vertices from their centres, before they turn; zero elsewhere.
        """
        eye = np.zeros_like(points)
        for kind, centre in zip(EYES, self.eye_centres, strict=True):
            shell = self.mesh.eyeball(kind)
            eye[shell] = points[shell] - centre
            points[shell] = (eye[shell] @ turn.T + centre).astype(np.float32)
        return eye

    def normals(
        self, points: Float32[np.ndarray, "v 3"], stood: Stance
    ) -> Float32[np.ndarray, "v 3"]:
        """Normals of the vertices in the world."""
        normals = kernels.vertex_normals(points, self.mesh.solid_triangles)
        b = self.mesh.bound[:, None]
        return (b * (normals @ stood.turn.T) + (1 - b) * normals).astype(np.float32)

    def occlusion(self, weights: Float32[np.ndarray, " expressions"]) -> Float32[np.ndarray, " v"]:
        """Share of the surroundings that the vertices see in an expression."""
        mesh = self.mesh
        change = weights[mesh.occluding] @ mesh.occlusion_change
        return np.clip(mesh.occlusion + change, 0, 1).astype(np.float32)

    def project(self, placed: Float32[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n 2"]:
        """From the world to the picture, (x, y) in [-1, 1]."""
        return project(placed, self.look.scene.distance)

    def screen(self, placed: Float32[np.ndarray, "*n 3"], size: int) -> Float32[np.ndarray, "*n 3"]:
        """Pixels and distance from the camera."""
        xy = (self.project(placed) + 1) * (size / 2)
        away = self.look.scene.distance + FACE_DEPTH - placed[..., 2:]
        return np.concatenate([xy, away], -1).astype(np.float32)


def slid(
    xy: Float[np.ndarray, "n 2"],
    vertices: Int32[np.ndarray, " 68"],
    contour: list[Int32[np.ndarray, " _"]],
) -> Int32[np.ndarray, " 68"]:
    """The vertices of landmarks as seen: those of the contour are at the edge of the face.

    Args:
        xy: where vertices are in the picture.
        vertices: of the landmarks of a face seen frontally.
        contour: vertices among which each of the first 17 slides.
    """
    chosen = vertices.copy()
    for n, path in enumerate(contour):
        if n != 8:
            edge = np.argmin if n < 8 else np.argmax
            chosen[n] = path[edge(xy[path, 0])]
    return chosen


def gaze_turn(row: Expression) -> Float32[np.ndarray, "3 3"]:
    """Rotation of the eyeballs."""
    # Eyes turn right and down where a head of negative yaw and positive pitch does.
    yaw, pitch = -GAZE_YAW * row[Control.GAZE_X], GAZE_PITCH * row[Control.GAZE_Y]
    return _turn(Pose(float(yaw), float(pitch), 0.0))


def stance(pose: Pose) -> Stance:
    """Where a pose puts a head."""
    turn, zoom = _turn(pose), float(pose.scale / camera.REST_SCALE)
    across = (pose.tx - camera.REST_TX) * camera.ROI_PIXEL
    up = (pose.ty - camera.REST_TY) * camera.ROI_PIXEL - camera.CENTRE_Y
    neck = zoom * turn @ (PIVOT - ORIGIN) + HALF_FRAME * np.array([across, up, 0])
    body = (1 - BODY_TURN) * np.eye(3) + BODY_TURN * turn
    return Stance(turn, body.astype(np.float32), zoom, neck.astype(np.float32))


def seated(pose: Pose, neck: Float[np.ndarray, " 3"]) -> Pose:
    """The pose, moved in the frame so that the neck's pivot is at a place."""
    across, up = (neck - stance(pose).neck)[:2] / HALF_FRAME / camera.ROI_PIXEL
    return pose._replace(tx=pose.tx + float(across), ty=pose.ty + float(up))


def place(
    points: Float32[np.ndarray, "*n 3"], bound: Float32[np.ndarray, " *n"], stood: Stance
) -> Float32[np.ndarray, "*n 3"]:
    """From the head to the world: x right, y up, z to the viewer, centimetres at scale 1.

    Args:
        points: of the head.
        bound: share of the head's turn that they follow.
        stood: where the head is.
    """
    b = bound[..., None]
    at = points - PIVOT
    placed = b * (at @ stood.turn.T) + (1 - b) * (at @ stood.body.T)
    return (stood.zoom * placed + stood.neck).astype(np.float32)


def project(placed: Float32[np.ndarray, "*n 3"], distance: float) -> Float32[np.ndarray, "*n 2"]:
    """From the world to the picture, (x, y) in [-1, 1], by a camera at a distance."""
    scale = distance / (distance + FACE_DEPTH - placed[..., 2]) / HALF_FRAME
    return placed[..., :2] * scale[..., None] * np.array([1, -1], np.float32)


def _turn(pose: Pose) -> Float32[np.ndarray, "3 3"]:
    """Rotation of the head."""
    return rotation_matrix(np.array(pose[:3])).astype(np.float32)


def _bulge(shell: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " 3"]:
    """Direction in which an eyeball stands out farthest: its axis."""
    far = shell[np.linalg.norm(shell, axis=1).argmax()]
    return far / np.linalg.norm(far)
