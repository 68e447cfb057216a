"""A person at a resolution, ready to be drawn in any pose and expression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from data.synthetic.camera import Camera, Depth, Pose
from data.synthetic.controls import Expression
from data.synthetic.decal import Decal
from data.synthetic.face import Face, build
from data.synthetic.identity import Identity
from data.synthetic.painter import eyes, hair, mouth, scene, skin
from data.synthetic.raster import Patch, Plane

_AROUND = np.linspace(-np.pi, np.pi, 24, endpoint=False)

_DEPTH_VARIES = 0.12
"""How much the depth of a layer changes across one feature of a face."""


class Portrait:
    """Draws one person; what never changes is painted once."""

    def __init__(self, identity: Identity, size: int):
        self.identity = identity
        self.size = size
        line = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
        self._u, self._v = np.meshgrid(line, line)
        self._background = scene.paint_background(self._u, self._v, identity)
        sharpness = size / 2
        self._body = Decal(
            scene.BODY_BOUNDS, sharpness, lambda patch: scene.paint_body(patch, identity)
        )
        self._ears = Decal(
            scene.EAR_BOUNDS, sharpness, lambda patch: scene.paint_ears(patch, identity)
        )
        self._relief = Decal(
            skin.RELIEF_BOUNDS,
            sharpness,
            lambda patch: skin.paint_relief(patch, identity),
            skin.RELIEF_PLANES,
        )
        mane = hair.Mane(identity) if hair.has_hair(identity) else None
        self._front_hair: Decal | None = None
        self._back_hair: Decal | None = None
        if mane:
            self._front_hair = Decal(hair.BOUNDS, sharpness, mane.paint_front, planes=5)
            if mane.has_back:
                self._back_hair = Decal(hair.BOUNDS, sharpness, mane.paint_back)

    def draw(self, pose: Pose, row: Expression) -> UInt8[np.ndarray, "h w 3"]:
        """One frame."""
        return self.draw_face(Camera(pose), build(self.identity, row))

    def draw_face(self, camera: Camera, face: Face) -> UInt8[np.ndarray, "h w 3"]:
        """One frame of a face already built."""
        rgb = self._background.copy()
        front = self._layer(rgb, camera, face.depth)
        hair_sheet = self._front_hair.look_up(front.x, front.y) if self._front_hair else None
        if self._back_hair:
            self._back_hair.lay_on(self._layer(rgb, camera, hair.BACK_DEPTH))
        self._draw_body(rgb, camera, face)
        self._ears.lay_on(self._layer(rgb, camera, 0.0))
        window = self._face_window(face, camera)
        shadow = None if hair_sheet is None else hair_sheet[hair.SHADOW_PLANE][window]
        self._draw_skin(front.cut(window), window, face, camera, shadow)
        if hair_sheet is not None:
            front.overlay(hair_sheet)
        if self.identity.glasses:
            lenses = self._layer(rgb, camera, scene.GLASSES_DEPTH)
            scene.paint_glasses(lenses, face, self.identity.glasses)
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)

    def _face_window(self, face: Face, camera: Camera) -> tuple[slice, slice]:
        """Rows and columns that show all of the face."""
        x, y = face.outline.points(_AROUND).T
        u, v = camera.project(x, y, face.outline_depth(x, y))
        columns, rows = ((np.array([p.min(), p.max()]) + 1) * self.size / 2 for p in (u, v))
        first = np.clip(np.floor([rows[0], columns[0]]) - 3, 0, self.size).astype(int)
        last = np.clip(np.ceil([rows[1], columns[1]]) + 3, 0, self.size).astype(int)
        return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))

    def _draw_body(self, rgb: np.ndarray, camera: Camera, face: Face) -> None:
        """Neck and shoulders, which follow the head half way and do not turn."""
        u, v = camera.project(0.0, scene.NECK_Y, 0.0)
        dx, dy = 0.6 * u, 0.4 * (v - scene.NECK_Y)
        half = self.size / 2

        def locate(px: float, py: float) -> tuple[float, float]:
            return (px + dx + 1) * half - 0.5, (py + dy + 1) * half - 0.5

        whole = Patch(rgb, self._u - dx, self._v - dy, half, locate, ((half, 0.0), (0.0, half)))
        part, opacity = self._body.lay_on(whole)
        chin = camera.project(0.0, face.chin, face.CHIN_DEPTH)
        scene.shade_neck(part, (chin[0] - dx, chin[1] - dy), self.identity, opacity)

    def _draw_skin(
        self,
        part: Patch,
        window: tuple[slice, slice],
        face: Face,
        camera: Camera,
        shadow: Plane | None,
    ) -> None:
        """Paints the face on a sheet of its own and cuts it out along its outline."""
        sheet = replace(part, rgb=np.empty_like(part.rgb))
        relief = self._relief.look_up(sheet.x, skin.rest_height(sheet, face))
        skin.paint_skin(sheet, face, relief, camera.turn)
        skin.paint_complexion(sheet, face)
        if shadow is not None:
            sheet.darken(shadow, (0.8, 1.0, 1.0))
        skin.paint_nose(sheet, face)
        for eye in face.eyes:
            eyes.paint_eye(sheet, face, eye)
        for brow in face.brows:
            eyes.paint_brow(sheet, face, brow)
        mouth.paint_beard(sheet, face)
        mouth.paint_mouth(sheet, face)
        if self.identity.glasses:
            scene.paint_temples(sheet, face, self.identity.glasses)
        x, y = camera.unproject(self._u[window], self._v[window], face.outline_depth)
        angle, radius = face.outline.polar(x, y)
        distance = face.outline.distance(face.outline.places(angle), radius)
        skin.shade_rim(sheet, distance)
        part.over(part.inside(distance), sheet.rgb)

    def _layer(self, rgb: np.ndarray, camera: Camera, depth: Depth | float) -> Patch:
        x, y = camera.unproject(self._u, self._v, depth)

        half = self.size / 2
        varies = callable(depth)

        def locate(px: float, py: float) -> tuple[float, float]:
            u, v = camera.project(px, py, depth(px, py) if callable(depth) else depth)
            return float((u + 1) * half - 0.5), float((v + 1) * half - 0.5)

        return Patch(
            rgb,
            x,
            y,
            half * camera.zoom,
            locate,
            camera.spread(half),
            camera.shift_by(_DEPTH_VARIES) * half if varies else 0.0,
        )
