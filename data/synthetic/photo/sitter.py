"""The person in a photograph, in any expression and in poses near that of the photograph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, UInt8

from data.synthetic import camera, movement
from data.synthetic.camera import Pose
from data.synthetic.controls import Expression
from data.synthetic.head_model import HeadModel
from data.synthetic.heads import kernels, looks
from data.synthetic.heads.figure import CORNEA, EYES, Figure, Shown, place, stance
from data.synthetic.heads.mesh import mesh_of, nearest_surfaces, smoothstep
from data.synthetic.photo import texture
from data.synthetic.photo.compose import compose
from data.synthetic.photo.fit import fit
from data.synthetic.photo.portrait import FINE, Portrait, develop, irises
from data.synthetic.photo.texture import GAMMA, Texture
from eamm_jax.input_pipeline.clips import REGION_PIXELS
from eamm_jax.types import Region

LARGEST_YAW, LARGEST_PITCH, LARGEST_ROLL = 12.0, 9.0, 12.0
"""Degrees from the pose of the photograph: beyond, it shows too little."""

_PARTED = 0.25
"""Centimetres between lips that are open; a mouth that differs by half is not the photograph's."""

DISTANCE = 110.0
"""Of the camera, centimetres: portraits are taken from one to two metres."""


class Sitter(Figure):
    """One person of a photograph, ready to be rendered.

    Attributes:
        portrait: the photograph.
        fit: of the head model to it.
    """

    def __init__(self, model: HeadModel, rng: np.random.Generator, portrait: Portrait):
        """Fits the head.

        Args:
            model: of heads.
            rng: of the person's ways to move.
            portrait: the photograph.
        """
        mesh = mesh_of(model)
        look = looks.sample(rng, False, len(model.identity), len(model.expression_names))
        look = replace(look, lids=0.0, scene=replace(look.scene, distance=DISTANCE))
        self.fit = fit(mesh, portrait.marks, DISTANCE, look.teeth)
        super().__init__(mesh, look, self.fit.shape, model.landmarks)
        self.portrait = portrait
        self._aim(irises(portrait))
        self._texture: Texture | None = None
        kind = mesh.kind[mesh.triangles[:, 0]]
        shown = texture.face_share(mesh)[mesh.solid_triangles].max(1) > 0
        shown &= (kind != kernels.HEAD) & (kind != kernels.BODY)
        self._triangles = np.ascontiguousarray(mesh.solid_triangles[shown])
        self._kind = kind[shown]
        self._one_sided = int((self._kind == kernels.FACE).sum())
        self._inner = texture.inner_part(mesh)

    def _aim(self, seen: Float[np.ndarray, "2 2"]) -> None:
        """Points the axes of the eyes to where the irises are seen, picture left first."""
        stood = stance(self.fit.pose)
        for n, target in enumerate(seen[::-1]):
            if not np.isfinite(target).all():
                continue
            centre = place(
                self.eye_centres[n : n + 1].astype(np.float32), np.ones(1, np.float32), stood
            )
            front = centre + np.array([0, 0, CORNEA * stood.zoom])
            straight, aside = self.project(np.concatenate([front, front + np.array([1, 0, 0])]))
            radius = CORNEA * stood.zoom * (aside[0] - straight[0])
            across = (target - straight) * [1, -1] / radius
            across *= min(1.0, 0.6 / max(float(np.linalg.norm(across)), 1e-6))
            way = np.append(across, np.sqrt(1 - across @ across))
            self.eye_axes[n] = way @ stood.turn

    def limited(self, poses: list[Pose]) -> list[Pose]:
        """The poses around that of the photograph, at most so far from it that it is enough."""
        own, result = self.fit.pose, []
        for pose in poses:
            yaw = LARGEST_YAW * np.tanh(pose.yaw / LARGEST_YAW)
            pitch = LARGEST_PITCH * np.tanh((pose.pitch - movement.MEAN_PITCH) / LARGEST_PITCH)
            roll = LARGEST_ROLL * np.tanh(pose.roll / LARGEST_ROLL)
            straight = camera.held(pose.yaw, pose.pitch, 0)
            result.append(
                Pose(
                    own.yaw + float(yaw),
                    own.pitch + float(pitch),
                    own.roll + float(roll),
                    own.scale * pose.scale / camera.REST_SCALE,
                    own.tx + pose.tx - straight.tx + camera.TX_PER_YAW * float(yaw),
                    own.ty + pose.ty - straight.ty + camera.TY_PER_PITCH * float(pitch),
                )
            )
        return result

    def shown(self, row: Expression, pose: Pose, size: int, moment: int) -> Shown:
        """The person in an expression and a pose. Where the backdrop begins is not known."""
        regions = np.full((REGION_PIXELS, REGION_PIXELS), Region.UNKNOWN, np.uint8)
        return Shown(self.render(*self.formed(row), pose, size), regions)

    def original(self, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """The photograph rendered again in its own expression and pose."""
        points = self.shape.copy()
        kernels.add_shapes(points, self.mesh.model.expression, self.fit.weights)
        eye = self.turn_eyes(points, np.eye(3, dtype=np.float32))
        return self.render(self.fit.weights, points, eye, self.fit.pose, size)

    def render(
        self,
        weights: Float32[np.ndarray, " expressions"],
        points: Float32[np.ndarray, "v 3"],
        eye: Float32[np.ndarray, "v 3"],
        pose: Pose,
        size: int,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A frame.

        Args:
            weights: of the expression shapes.
            points: of the head.
            eye: vertices of eyeballs from their centres, before they turn.
            pose: of the head.
            size: rows and columns.
        """
        mesh = self.mesh
        if self._texture is None or self._texture.plate.size != size:
            self._texture = texture.take(self, self.fit, develop(self.portrait, size))
        own, stood, fine = self._texture, stance(pose), FINE * size
        placed = place(points, mesh.bound, stood)
        normals, occlusion = self.normals(points, stood), self.occlusion(weights)
        seen, colour = own.seen.copy(), own.colour.copy()
        lit = texture.brightness(own.brightness, normals)
        gain = ((occlusion + 0.15) / (own.occlusion + 0.15)) ** 0.6
        gain[: mesh.skin_end] *= np.clip(lit / own.lit, 0.8, 1.25)[: mesh.skin_end]
        gain = np.clip(gain, 0.2, 1.5) ** (1 / GAMMA)
        colour[self._inner] = self._inside(occlusion, normals)
        self._shade_mouth(weights, seen, gain)
        self._shade_eyes(weights, occlusion, seen, gain, colour)

        relief = own.relief
        followed = (points - own.points)[relief.anchor] * relief.weight[:, None]
        nodes = place(relief.points + followed, relief.bound, stood)
        _, behind, behind_bary = nearest_surfaces(
            self.screen(nodes, fine), relief.triangles, 0, fine
        )
        _, face, bary = nearest_surfaces(
            self.screen(placed, fine), self._triangles, self._one_sided, fine
        )
        image = np.zeros((size, size, 3), np.float32)
        compose(
            image,
            np.zeros((3, 5), np.float32),
            own.plate.backdrop,
            relief.plate,
            behind,
            behind_bary,
            relief.triangles,
            relief.uv,
            own.photo,
            face,
            bary,
            self._triangles,
            self._kind,
            own.uv,
            own.share,
            seen,
            gain.astype(np.float32),
            colour,
            eye,
            self.eye_axes,
            own.profile,
            np.float32(texture.LARGEST_ANGLE / texture.PROFILE_BINS),
        )
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _shade_mouth(
        self,
        weights: Float32[np.ndarray, " expressions"],
        seen: Float32[np.ndarray, " v"],
        gain: Float32[np.ndarray, " v"],
    ) -> None:
        """The mouth of the photograph where it is as open, a dark line where lips are closed."""
        gap, own_gap = (float(self.muscles.gaps @ w) for w in (weights, self.fit.weights))
        alike = float(np.exp(-((2 * (gap - own_gap) / _PARTED) ** 2)))
        light = 0.3 + 0.7 * float(smoothstep(0, _PARTED, np.array(gap)))
        for name in ("mouth_socket", "gums_tongue", "teeth"):
            part = self.mesh.model.parts[name].vertices
            seen[part] = np.maximum(seen[part], alike)
            gain[part] = light + alike * (1 - light)

    def _shade_eyes(
        self,
        weights: Float32[np.ndarray, " expressions"],
        occlusion: Float32[np.ndarray, " v"],
        seen: Float32[np.ndarray, " v"],
        gain: Float32[np.ndarray, " v"],
        colour: Float32[np.ndarray, "v 3"],
    ) -> None:
        """Lids that move get the colour of the skin around; what they shade is darker."""
        own, mesh, change = self._texture, self.mesh, weights - self.fit.weights
        assert own is not None
        for n, (side, socket) in enumerate(zip("LR", texture.eye_sockets(mesh), strict=True)):
            blink, wide, down = (
                float(change[mesh.shape(f"{name}_{side}")])
                for name in ("eyeBlink", "eyeWide", "eyeLookDown")
            )
            moved = abs(blink + 0.6 * down - 0.6 * wide)
            seen *= 1 - own.lid[n] * smoothstep(0.1, 0.6, np.array(moved))
            shell = mesh.eyeball(EYES[n])
            colour[shell] = np.clip((occlusion[shell] + 0.1) / 0.5, 0.3, 1)[:, None] ** 0.6
            # Between closed lids there is a dark line.
            shut = smoothstep(0.7, 1, weights[[mesh.shape(f"eyeBlink_{side}")]])
            for part in (shell, socket):
                gain[part] *= 1 - 0.75 * shut

    def _inside(
        self, occlusion: Float32[np.ndarray, " v"], normals: Float32[np.ndarray, "v 3"]
    ) -> Float32[np.ndarray, "n 3"]:
        """Colours of the inside of the mouth and of the eye sockets, in the photograph's light."""
        own, inner = self._texture, self._inner
        assert own is not None
        model, first = self.mesh.model, inner.start
        open_ = occlusion[inner].copy()
        teeth = model.parts["teeth"].vertices
        teeth = slice(teeth.start - first, teeth.stop - first)
        front = np.clip((model.neutral[inner][teeth, 2] - 6.5) / 3.6, 0.05, 1)
        open_[teeth] = np.minimum(1, 0.18 + 0.9 * np.sqrt(open_[teeth])) * front**4
        lit = texture.brightness(own.brightness, normals[inner])
        lit = lit / (own.brightness[0] + own.brightness[3])
        light = own.inside * (open_ * np.clip(lit, 0.5, 1.2))[:, None]
        return (255 * np.clip(light, 0, 1) ** (1 / GAMMA)).astype(np.float32)
