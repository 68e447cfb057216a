"""A rendered person: pictures of any expression and pose, with dense ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from data.synthetic.camera import Pose
from data.synthetic.controls import Expression
from data.synthetic.head_model import HeadModel
from data.synthetic.heads import hair, kernels, scene, skin
from data.synthetic.heads.expression import lip_gap
from data.synthetic.heads.figure import (
    FACE_DEPTH,
    HALF_FRAME,
    PIVOT,
    Figure,
    Shown,
    Stance,
    place,
    stance,
)
from data.synthetic.heads.hair import Strands
from data.synthetic.heads.looks import Look, linear
from data.synthetic.heads.mesh import Mesh, mesh_of, nearest_surfaces, smoothstep, view_axes
from eamm_jax.input_pipeline.clips import REGION_PIXELS
from eamm_jax.types import Region

SHADOW_SIZE, SHADOW_REACH = 224, 19.0
"""Rows of the shadow map, and half the centimetres that it covers."""

IRIS_ANGLE, PUPIL_ANGLE = 0.37, 0.13
"""Radians from the eye's axis to the edges of iris and pupil."""


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


class Person(Figure):
    """One person, ready to be rendered."""

    def __init__(self, model: HeadModel, look: Look):
        mesh = mesh_of(model)
        vertices = model.landmarks.copy()
        vertices[_BROWS] = skin.brow_vertices(mesh, look)
        super().__init__(mesh, look, shape_of(mesh, look), vertices)
        self._painted: _Painted | None = None

    def shown(self, row: Expression, pose: Pose, size: int, moment: int) -> Shown:
        """The picture, and what it shows; see `render`."""
        rendering = self.render(row, pose, size, moment)
        return Shown(rendering.image, regions_of(rendering.labels))

    def render(self, row: Expression, pose: Pose, size: int, moment: int = 0) -> Rendering:
        """A picture with its truth.

        Args:
            row: the controls of the face.
            pose: of the head.
            size: rows and columns.
            moment: number of the frame, for noise and for what moves in the backdrop.
        """
        mesh, model = self.mesh, self.mesh.model
        painted, view = self._painted_at(size), self.look.scene
        weights, points, eye = self.formed(row)
        stood = stance(pose)
        normals, occlusion = self.normals(points, stood), self.occlusion(weights)
        placed = place(points, mesh.bound, stood)
        strands = [_place_strands(group, points, stood) for group in painted.strands]

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
        lifted = from_lamp(placed + 0.15 * normals)
        arrives = kernels.lit(lifted, shadow, 2, 0.9, 0.30)

        fine = 2 * size
        source = mesh.source
        screen = self.screen(placed, fine)[source]
        depth, ident, bary = nearest_surfaces(screen, mesh.triangles, mesh.one_sided, fine)
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
            normals[source],
            occlusion[source],
            arrives[source],
            painted.tint[source],
            skin.wrinkles(mesh, self.look, weights)[source],
            eye[source],
            stood.turn,
            *painted.textures,
            self.eye_axes,
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
            screen = self.screen(at, size)
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

    def flows(
        self, moments: Sequence[tuple[Expression, Pose]], size: int
    ) -> Float16[np.ndarray, "t t 64 64 2"]:
        """Of the surface, or the strand of hair, that is nearest in the middle of each square."""
        mesh, side, frames = self.mesh, REGION_PIXELS, []
        for row, pose in moments:
            points, stood = self.formed(row).points, stance(pose)
            surface = self.screen(place(points, mesh.bound, stood), side)[mesh.source]
            hairs = _place_strands(self._painted_at(size).strands[0], points, stood).reshape(-1, 3)
            frames.append((surface, self.screen(hairs, side)))
        flows = super().flows(moments, size)
        middles = np.stack(np.meshgrid(*[np.arange(side) + 0.5] * 2), axis=-1)
        for here, (surface, hairs) in enumerate(frames):
            depth, ident, bary = nearest_surfaces(surface, mesh.triangles, mesh.one_sided, side)
            nearest = kernels.nearest_points(hairs, depth)
            solid, hairy = ident >= 0, nearest >= 0
            corners, hair_seen = mesh.triangles[ident[solid]], nearest[hairy]
            share = np.concatenate([bary, 1 - bary.sum(-1, keepdims=True)], axis=-1)[solid]
            for there, (moved, moved_hairs) in enumerate(frames):
                at = np.full((side, side, 2), np.nan, np.float32)
                at[solid] = np.einsum("nk,nkd->nd", share, moved[corners, :2])
                at[hairy] = middles[hairy] + (moved_hairs - hairs)[hair_seen, :2]
                flows[here, there] = at * (2 / side) - 1
        return flows

    def _painted_at(self, size: int) -> _Painted:
        if self._painted is None or self._painted.size != size:
            self._painted = _paint(self.mesh, self.look, self.shape, size)
        return self._painted


def _place_strands(
    group: Strands, points: Float32[np.ndarray, "v 3"], stood: Stance
) -> Float32[np.ndarray, "s k 3"]:
    """A group's strands in the world, on a head whose vertices are `points`."""
    return kernels.place_strands(
        group.points,
        group.anchors,
        group.weights,
        points,
        stood.turn,
        stood.body,
        stood.zoom,
        PIVOT,
        stood.neck,
    )


_BROWS = slice(17, 27)


def regions_of(labels: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "64 64"]:
    """What is seen in the middle of each square of a picture of any size."""
    at = ((np.arange(REGION_PIXELS) + 0.5) * len(labels) / REGION_PIXELS).astype(int)
    region = np.full(kernels.GLASSES + 1, Region.HEAD, np.uint8)
    region[kernels.BACKGROUND], region[kernels.CLOTHES] = Region.BACKDROP, Region.BODY
    return region[labels[np.ix_(at, at)]]


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
        tints(mesh, look),
        strands,
        scene.backdrop(look.scene, size),
    )


def tints(mesh: Mesh, look: Look) -> Float32[np.ndarray, "v 3"]:
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
    seat_teeth(mesh, shape, look.teeth)
    _dress(mesh, look, shape)
    return shape.astype(np.float32)


def seat_teeth(mesh: Mesh, shape: Float32[np.ndarray, "v 3"], drop: float) -> None:
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
