"""A rendered person: geometry, ground truth and pictures of any expression and pose.

The pose is the published one (see `camera`). A perspective camera looks at the head from the
distance that the scene says; at the depth of the face its scale is the pose's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from data.synthetic import camera
from data.synthetic.camera import Pose
from data.synthetic.controls import Control, Expression
from data.synthetic.head_model import HeadModel
from data.synthetic.heads import hair, kernels, scene, skin
from data.synthetic.heads.expression import GAZE_PITCH, GAZE_YAW, Muscles, lip_gap
from data.synthetic.heads.hair import Strands
from data.synthetic.heads.looks import Look, linear
from data.synthetic.heads.mesh import EYE_CENTRES, Mesh, mesh_of, smoothstep, view_axes

HALF_FRAME = 14.2
"""Centimetres of the head model in half a frame at the usual scale: the fit says 14.8, and faces as
large as the template of the published crops need this."""

ORIGIN = np.array([0.0, 0.88, 0.15], np.float32)
"""Centre of the published head on the head model, from a fit of its landmarks to the generic face
(`eamm_jax.faces.generic_face`)."""

PIVOT = np.array([0.0, -3.5, -1.0], np.float32)
"""Where the head turns on the neck."""

FACE_DEPTH = 8.0
"""Depth of the plane that keeps the pose's scale, from `ORIGIN`."""

SHADOW_SIZE, SHADOW_REACH = 224, 19.0
"""Rows of the shadow map, and half the centimetres that it covers."""

IRIS_ANGLE, PUPIL_ANGLE = 0.37, 0.13
"""Radians from the eye's axis to the edges of iris and pupil."""

_FLIP = np.diag([1.0, -1.0, 1.0]).astype(np.float32)


class Rendering(NamedTuple):
    """A picture and its dense ground truth.

    Attributes:
        image: what the camera saw.
        labels: of `kernels`, most of each pixel.
        depth: centimetres in front of the centre of the head, NaN in the background.
        mean_shape: position on the mean head of what is seen, NaN in the background.
    """

    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]
    mean_shape: Float32[np.ndarray, "h w 3"]


class Person:
    """One person, ready to be rendered.

    Attributes:
        look: who it is.
        shape: the head at rest.
        mesh: that everybody shares.
        muscles: its expressions.
    """

    def __init__(self, model: HeadModel, look: Look):
        self.mesh = mesh = mesh_of(model)
        model = mesh.model
        self.look = look
        self.shape = shape_of(mesh, look)
        self.muscles = Muscles(mesh, look, self.shape)
        base = [model.neutral[mesh.eyeball(k)].mean(0) for k in _EYES]
        here = [self.shape[mesh.eyeball(k)].mean(0) for k in _EYES]
        self._eye_centres = EYE_CENTRES + np.array(here) - np.array(base)
        self._eye_axes = np.stack(
            [
                _bulge(self.shape[mesh.eyeball(k)] - c)
                for k, c in zip(_EYES, self._eye_centres, strict=True)
            ]
        ).astype(np.float32)
        self._painted: _Painted | None = None
        # The vertices that landmarks are taken from, with their shapes.
        vertices = model.landmarks.copy()
        vertices[_BROWS] = skin.brow_vertices(mesh, look)
        self._marked = np.unique(np.concatenate([vertices, *mesh.contour]))
        self._marked_shapes = np.ascontiguousarray(model.expression[:, self._marked])
        where = {int(v): n for n, v in enumerate(self._marked)}
        self._landmarks = np.array([where[int(v)] for v in vertices])
        self._contour = [np.array([where[int(v)] for v in path]) for path in mesh.contour]

    # Truth.

    def landmarks(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "68 2"]:
        """The 68 landmarks in dlib's sense, (x, y) in [-1, 1].

        The contour follows the visible edge of the face where the head turns away.
        """
        points = self.shape[self._marked].copy()
        kernels.add_shapes(points, self._marked_shapes, self.muscles.weights(row))
        bound = self.mesh.bound[self._marked]
        xy = self._project(self._place(points, bound, pose))
        marks = xy[self._landmarks]
        for n, path in enumerate(self._contour):
            if n < 8:
                marks[n] = xy[path[np.argmin(xy[path, 0])]]
            elif n > 8:
                marks[n] = xy[path[np.argmax(xy[path, 0])]]
        return marks.astype(np.float32)

    def pupils(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "2 2"]:
        """Where the pupils are, picture left first, lids open or not, as `landmarks`."""
        turned = self._gaze(row)
        radius = 1.72  # of the front of the cornea
        points = self._eye_centres + radius * self._eye_axes @ turned.T
        placed = self._place(points.astype(np.float32), np.ones(2, np.float32), pose)
        return self._project(placed)[::-1].astype(np.float32)

    def opening(self, row: Expression) -> float:
        """Gap between the lips of the face seen frontally, in half frames."""
        return self.muscles.opening(self.muscles.weights(row)) / HALF_FRAME

    # Geometry.

    def _gaze(self, row: Expression) -> Float32[np.ndarray, "3 3"]:
        # Eyes turn right and down where a head of negative yaw and positive pitch does.
        yaw, pitch = -GAZE_YAW * row[Control.GAZE_X], GAZE_PITCH * row[Control.GAZE_Y]
        return _turn(Pose(float(yaw), float(pitch), 0.0))

    def _place(
        self,
        points: Float32[np.ndarray, "*n 3"],
        bound: Float32[np.ndarray, " *n"],
        pose: Pose,
    ) -> Float32[np.ndarray, "*n 3"]:
        """From the head to the world: x right, y up, z to the viewer, centimetres at scale 1."""
        turn, body, zoom, neck = _stance(pose)
        b = bound[..., None]
        at = points - PIVOT
        placed = b * (at @ turn.T) + (1 - b) * (at @ body.T)
        return (zoom * placed + neck).astype(np.float32)

    def _project(self, placed: Float32[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n 2"]:
        """From the world to the picture, (x, y) in [-1, 1]."""
        distance = self.look.scene.distance
        scale = distance / (distance + FACE_DEPTH - placed[..., 2]) / HALF_FRAME
        return placed[..., :2] * scale[..., None] * np.array([1, -1], np.float32)

    def _screen(
        self, placed: Float32[np.ndarray, "*n 3"], size: int
    ) -> Float32[np.ndarray, "*n 3"]:
        """Pixels and distance from the camera."""
        xy = (self._project(placed) + 1) * (size / 2)
        away = self.look.scene.distance + FACE_DEPTH - placed[..., 2:]
        return np.concatenate([xy, away], -1).astype(np.float32)

    # Pictures.

    def picture(
        self, row: Expression, pose: Pose, size: int, moment: int
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture alone; see `render`."""
        return self.render(row, pose, size, moment).image

    def render(self, row: Expression, pose: Pose, size: int, moment: int = 0) -> Rendering:
        """A picture with its truth.

        Args:
            row: the controls of the face.
            pose: of the head.
            size: rows and columns.
            moment: number of the frame, for noise and for what moves in the backdrop.
        """
        mesh, model = self.mesh, self.mesh.model
        if self._painted is None or self._painted.size != size:
            self._painted = _paint(mesh, self.look, self.shape, size)
        painted, view = self._painted, self.look.scene
        weights = self.muscles.weights(row)
        points = self.shape.copy()
        kernels.add_shapes(points, model.expression, weights)
        self._raise_tongue(points, float(row[Control.TONGUE]))
        gaze = self._gaze(row)
        eye = np.zeros_like(points)
        for kind, centre in zip(_EYES, self._eye_centres, strict=True):
            shell = mesh.eyeball(kind)
            eye[shell] = points[shell] - centre
            points[shell] = (eye[shell] @ gaze.T + centre).astype(np.float32)
        normals = kernels.vertex_normals(points, mesh.solid_triangles)
        occlusion = np.clip(
            mesh.occlusion + weights[mesh.occluding] @ mesh.occlusion_change, 0, 1
        ).astype(np.float32)
        turn = _turn(pose)
        placed = self._place(points, mesh.bound, pose)
        b = mesh.bound[:, None]
        normals = b * (normals @ turn.T) + (1 - b) * normals
        head, body, zoom, neck = _stance(pose)
        strands = [
            kernels.place_strands(
                group.points, group.anchors, group.weights, points, head, body, zoom, PIVOT, neck
            )
            for group in painted.strands
        ]

        lights = np.stack([lamp.direction for lamp in view.lamps]).astype(np.float32)
        lamps = np.stack([lamp.colour for lamp in view.lamps]).astype(np.float32)
        sky, ground = view.sky.astype(np.float32), view.ground.astype(np.float32)
        viewer = np.array([0, 0, view.distance + FACE_DEPTH], np.float32)
        axes = view_axes(lights[0]).astype(np.float32)

        def from_lamp(at: Float32[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n 3"]:
            seen = at @ axes.T
            seen[..., :2] = (seen[..., :2] / SHADOW_REACH + 1) * (SHADOW_SIZE / 2)
            return seen.astype(np.float32)

        shadow = np.full((SHADOW_SIZE, SHADOW_SIZE), kernels.FAR, np.float32)
        kernels.rasterize(from_lamp(placed), mesh.solid_triangles, 0, shadow)
        kernels.splat_depth(strands[0], axes, SHADOW_REACH, shadow, 3)
        lifted = from_lamp(placed + 0.15 * normals.astype(np.float32))
        arrives = kernels.lit(lifted, shadow, 2, 0.9, 0.30)

        fine = 2 * size
        source = mesh.source
        depth = np.full((fine, fine), kernels.FAR, np.float32)
        ident = np.full((fine, fine), -1, np.int32)
        bary = np.zeros((fine, fine, 2), np.float32)
        screen = self._screen(placed, fine)[source]
        kernels.rasterize(screen, mesh.triangles, mesh.one_sided, depth, ident, bary)
        rgb = np.zeros((size, size, 3), np.float32)
        cover = np.zeros((size, size), np.float32)
        labels = np.zeros((size, size), np.uint8)
        mean_shape = np.full((size, size, 3), np.nan, np.float32)
        kernels.shade(
            rgb,
            cover,
            labels,
            mean_shape,
            ident,
            bary,
            mesh.triangles,
            mesh.kind,
            mesh.uv,
            model.neutral[source],
            placed[source],
            normals[source].astype(np.float32),
            occlusion[source],
            arrives[source],
            painted.tint[source],
            skin.wrinkles(mesh, self.look, weights)[source],
            eye[source],
            turn,
            *painted.textures,
            self._eye_axes,
            linear(self.look.iris).astype(np.float32),
            lights,
            lamps,
            sky,
            ground,
            viewer,
            np.array([IRIS_ANGLE, PUPIL_ANGLE, 0.6, self.look.seed % 997], np.float32),
        )

        behind = scene.moved(painted.backdrop, view, moment)
        picture = rgb + (1 - cover)[..., None] * behind
        hair_rgb = np.zeros_like(rgb)
        through = np.ones_like(cover)
        hair_label = np.zeros_like(labels)
        most = np.zeros_like(cover)
        for group, at in zip(painted.strands[::-1], strands[::-1], strict=True):
            light = kernels.light_strands(
                at,
                group.colour,
                group.ambient,
                group.gloss,
                shadow,
                axes,
                SHADOW_REACH,
                lights,
                lamps,
                sky,
                ground,
                viewer,
            )
            screen = self._screen(at, size)
            pixels = group.width * np.float32(size / 2 / HALF_FRAME)
            middle = (screen[:, :-1, 2] + screen[:, 1:, 2]).reshape(-1)
            kernels.draw_strands(
                hair_rgb,
                through,
                hair_label,
                most,
                screen,
                light,
                pixels,
                group.opacity,
                group.tag,
                depth,
                kernels.nearest_first(middle),
            )
        picture = hair_rgb + through[..., None] * picture
        labels = np.where(through < 0.5, hair_label, labels).astype(np.uint8)
        rows = np.minimum(depth[::2], depth[1::2])
        nearest = np.minimum(rows[:, ::2], rows[:, 1::2])
        seen = nearest < kernels.FAR
        distance = np.where(seen, view.distance + FACE_DEPTH - nearest, np.nan).astype(np.float32)
        image = scene.photograph(picture, view, (self.look.seed, moment))
        return Rendering(image, labels, distance, mean_shape)

    def _raise_tongue(self, points: Float32[np.ndarray, "v 3"], amount: float) -> None:
        """Lifts the tip of the tongue to the upper teeth."""
        tongue, share = self.mesh.tongue
        points[tongue, 1] += 0.9 * float(np.clip(amount, 0, 1)) * share
        points[tongue, 2] += 0.35 * float(np.clip(amount, 0, 1)) * share


_BROWS = slice(17, 27)
_EYES = (kernels.EYE_LEFT, kernels.EYE_RIGHT)


class _Painted(NamedTuple):
    """What does not change from frame to frame."""

    size: int
    textures: skin.Textures
    tint: Float32[np.ndarray, "v 3"]
    strands: list[Strands]
    backdrop: Float32[np.ndarray, "h w 3"]


def _paint(mesh: Mesh, look: Look, shape: Float32[np.ndarray, "v 3"], size: int) -> _Painted:
    strands = [hair.hair(mesh, look, shape), hair.fine_strands(mesh, look)]
    if look.glasses:
        strands.append(hair.glasses(mesh, look, shape))
    return _Painted(
        size,
        skin.paint(mesh, look),
        _tints(mesh, look),
        strands,
        scene.backdrop(look.scene, size),
    )


def _tints(mesh: Mesh, look: Look) -> Float32[np.ndarray, "v 3"]:
    """Colours of surfaces without texture."""
    parts = mesh.model.parts
    clothes = linear(look.clothes[int(look.jacket)])
    tint = np.tile(clothes.astype(np.float32), (len(mesh.model.neutral), 1))
    tint[parts["gums_tongue"].vertices] = (0.42, 0.15, 0.14)
    tint[parts["teeth"].vertices] = np.array([0.78, 0.71, 0.60]) * (1 - 0.15 * look.age)
    lip = linear(look.skin) * np.array([0.82, 0.50, 0.48])
    for name in ("eye_socket_left", "eye_socket_right"):
        tint[parts[name].vertices] = lip
    socket = parts["mouth_socket"].vertices
    deep = smoothstep(10.6, 9.2, mesh.model.neutral[socket, 2])[:, None]
    tint[socket] = lip * (1 - deep) + np.array([0.28, 0.07, 0.06]) * deep
    return tint


def shape_of(mesh: Mesh, look: Look) -> Float32[np.ndarray, "v 3"]:
    """A person's head at rest, of the usual size, lips closed and teeth behind them."""
    model = mesh.model
    modes = look.modes[: len(model.identity)].astype(np.float32)
    shape = model.neutral + np.tensordot(modes, model.identity, 1)
    inner = model.landmarks[17:]
    mean, here = model.neutral[inner].mean(0), shape[inner].mean(0)
    spread = [np.linalg.norm(s[inner] - s[inner].mean(0)) for s in (model.neutral, shape)]
    shape = (shape - here) * (spread[0] / spread[1]) + mean
    # Identity modes part some lips at rest: turn the jaw until they meet as in the mean head.
    names = model.expression_names
    jaw = model.expression[names.index("jawOpen")]
    gap = lip_gap(mesh, np.stack([shape, model.neutral, jaw]))
    shape = shape - jaw * np.clip((gap[0] - gap[1]) / gap[2], -0.08, 0.12)
    _seat_teeth(mesh, shape, look.teeth)
    _dress(mesh, look, shape)
    return shape.astype(np.float32)


def _seat_teeth(mesh: Mesh, shape: Float32[np.ndarray, "v 3"], drop: float) -> None:
    """Moves both rows of teeth, with gums and tongue, behind the lips.

    Args:
        mesh: of the head.
        shape: moved in place.
        drop: how far the upper row hangs below the line between the lips.
    """
    parts, marks = mesh.model.parts, mesh.model.landmarks
    upper_lip, lower_lip = shape[marks[62]], shape[marks[66]]
    teeth = np.arange(len(shape))[parts["teeth"].vertices]
    upper, lower = teeth[mesh.upper_teeth], teeth[~mesh.upper_teeth]
    front = {}
    for name, row in (("upper", upper), ("lower", lower)):
        middle = row[np.abs(shape[row, 0]) < 0.9]
        front[name] = shape[middle]
    up = np.array(
        [
            0,
            upper_lip[1] - drop - front["upper"][:, 1].min(),
            upper_lip[2] - 0.5 - front["upper"][:, 2].max(),
        ]
    )
    down = np.array(
        [
            0,
            lower_lip[1] + 0.05 - front["lower"][:, 1].max(),
            lower_lip[2] - 0.7 - front["lower"][:, 2].max(),
        ]
    )
    shape[upper] += up
    shape[lower] += down
    gums = parts["gums_tongue"].vertices
    k = smoothstep(-2.5, -1.7, mesh.model.neutral[gums, 1])[:, None]
    shape[gums] += up * k + down * (1 - k)


def _dress(mesh: Mesh, look: Look, shape: Float32[np.ndarray, "v 3"]) -> None:
    """Lifts clothes off the skin, so that they have an edge."""
    skin_part = slice(0, mesh.skin_end)
    rest = mesh.model.neutral[skin_part]
    normals = kernels.vertex_normals(shape.astype(np.float32), mesh.skin_triangles)[skin_part]
    worn = smoothstep(0.25, -0.25, skin.neckline(look, rest)) * (rest[:, 1] < -6)
    shape[skin_part] += 0.35 * worn[:, None] * normals


def _turn(pose: Pose) -> Float32[np.ndarray, "3 3"]:
    """Rotation of the head with y up."""
    turn = camera.rotation(pose.yaw, pose.pitch, pose.roll)
    return (_FLIP @ turn @ _FLIP).astype(np.float32)


def _stance(
    pose: Pose,
) -> tuple[
    Float32[np.ndarray, "3 3"], Float32[np.ndarray, "3 3"], float, Float32[np.ndarray, " 3"]
]:
    """Turn of the head, turn of the body, scale, and where the neck's pivot is in the world."""
    turn, zoom = _turn(pose), float(pose.scale / camera.REST_SCALE)
    across = (pose.tx - camera.REST_TX) * camera.ROI_PIXEL
    up = (pose.ty - camera.REST_TY) * camera.ROI_PIXEL - camera.CENTRE_Y
    neck = zoom * turn @ (PIVOT - ORIGIN) + HALF_FRAME * np.array([across, up, 0])
    body = 0.75 * np.eye(3) + 0.25 * turn
    return turn, body.astype(np.float32), zoom, neck.astype(np.float32)


def _bulge(shell: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " 3"]:
    """Direction in which an eyeball stands out farthest: its axis."""
    far = shell[np.linalg.norm(shell, axis=1).argmax()]
    return far / np.linalg.norm(far)
