"""From the muscles of a face (`controls`) to weights of the head model's expression shapes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from data.synthetic.controls import Control, Expression
from data.synthetic.heads.looks import Look
from data.synthetic.heads.mesh import Mesh

GAZE_YAW, GAZE_PITCH = 26.0, 20.0
"""Degrees that the eyes turn at a gaze of 1."""

LARGEST, LARGEST_FROWN = 1.15, 1.8
"""Largest weight of a shape, and of a shape that frowns or moves a brow: these are small, and at 1
few people see anger or sadness in them."""

JAW_GAIN, LARGEST_JAW = 0.56, 0.64
"""Weight of `jawOpen` at a jaw of 1, and the largest used: beyond it the model's cheeks tear."""


class Muscles:
    """Expressions of one person."""

    def __init__(self, mesh: Mesh, look: Look):
        self._mesh, self._look = mesh, look
        self.gaps = lip_gap(mesh, mesh.model.expression)
        self._largest = np.array(
            [
                LARGEST_FROWN if name.startswith(("brow", "mouthFrown")) else LARGEST
                for name in mesh.model.expression_names
            ],
            np.float32,
        )

    def weights(self, row: Expression) -> Float32[np.ndarray, " expressions"]:
        """Weights of the expression shapes for the controls of a face."""
        value = {control: float(row[control]) for control in Control}
        look, mesh = self._look, self._mesh
        weights = np.zeros(len(mesh.model.expression_names), np.float32)

        def add(name: str, amount: float) -> None:
            weights[mesh.shape(name)] += amount

        def both(name: str, amount: float) -> None:
            # The subject's left is at picture right.
            add(f"{name}_L", amount * (1 + look.asymmetry))
            add(f"{name}_R", amount * (1 - look.asymmetry))

        inner, furrow = value[Control.BROW_INNER], value[Control.BROW_FURROW]
        both("browInnerUp", max(inner, 0))
        both("browDown", 0.85 * max(-inner, 0) + 0.30 * furrow * (1 if inner < 0 else 0.6))
        for side, control in (("R", Control.BROW_OUTER_LEFT), ("L", Control.BROW_OUTER_RIGHT)):
            add(f"browOuterUp_{side}", max(value[control], 0))
            add(f"browDown_{side}", 0.35 * max(-value[control], 0))
        lid = value[Control.LID_UPPER]
        both("eyeWide", max(lid, 0))
        both("eyeSquint", 0.55 * value[Control.LID_LOWER])
        both("cheekSquint", 0.65 * value[Control.CHEEK_RAISE])
        wrinkle = value[Control.NOSE_WRINKLE]
        both("noseSneer", 0.8 * wrinkle)

        for side, control in (("R", Control.CORNER_LEFT), ("L", Control.CORNER_RIGHT)):
            corner = value[control] * (1 + look.asymmetry * (1 if side == "L" else -1))
            add(f"mouthSmile_{side}", 0.75 * max(corner, 0))
            add(f"mouthFrown_{side}", 0.75 * max(-corner, 0))
        jaw = float(np.clip(value[Control.JAW_OPEN], 0, 1.3))
        closed = float(np.clip(value[Control.LIPS_CLOSED], 0, 1))
        tuck = float(np.clip(value[Control.LIP_TUCK], 0, 1))
        rounded = float(np.clip(value[Control.MOUTH_ROUND], 0, 1))
        width, press = value[Control.MOUTH_WIDTH], max(value[Control.LIP_PRESS], 0)
        both("mouthStretch", 0.50 * max(width, 0) * (1 - rounded))
        add("mouthPucker", 0.65 * rounded * (1 - 0.4 * min(jaw, 1)) + 0.25 * max(-width, 0))
        add("mouthFunnel", 0.35 * rounded * (0.5 + min(jaw, 1)) * (1 - closed))
        part = 1 - closed
        both(
            "mouthUpperUp", (0.55 * value[Control.LIP_UPPER_RAISE] + 0.15 * jaw) * part + 0.3 * tuck
        )
        both(
            "mouthLowerDown", (0.6 * value[Control.LIP_LOWER_DROP] + 0.2 * jaw) * part * (1 - tuck)
        )
        both("mouthPress", 0.6 * press + 0.3 * closed)
        add("mouthRollLower", 0.2 * press + 0.18 * closed + 0.65 * tuck)
        add("mouthRollUpper", 0.2 * press + 0.15 * closed)
        add("mouthShrugLower", 0.5 * max(value[Control.CHIN_RAISE], 0) * (1 - 0.6 * min(jaw, 1)))
        weights[:] = np.clip(weights * look.strength, 0, self._largest)
        jaw_open = min(JAW_GAIN * jaw, LARGEST_JAW) * (1 - 0.55 * tuck)
        weights[mesh.shape("jawOpen")] = jaw_open

        down, across = value[Control.GAZE_Y], value[Control.GAZE_X]
        blink = float(np.clip(value[Control.BLINK], 0, 1))
        droop = look.lids + 0.27 * max(-lid, 0) - 0.45 * look.lids * max(lid, 0)
        droop = float(np.clip(droop, 0, 0.45))
        for side, sign in (("R", -1), ("L", 1)):
            weights[mesh.shape(f"eyeBlink_{side}")] = blink + (1 - blink) * droop
            weights[mesh.shape(f"eyeWide_{side}")] *= 1 - blink
            weights[mesh.shape(f"eyeSquint_{side}")] *= 1 - 0.6 * blink
            weights[mesh.shape(f"eyeLookDown_{side}")] = max(down, 0) * (1 - blink)
            weights[mesh.shape(f"eyeLookUp_{side}")] = max(-down, 0) * (1 - blink)
            weights[mesh.shape(f"eyeLookOut_{side}")] = max(sign * across, 0) * (1 - blink)
            weights[mesh.shape(f"eyeLookIn_{side}")] = max(-sign * across, 0) * (1 - blink)

        # Shapes add up linearly, and so does the gap: solve for lips that meet and never cross.
        gap = float(self.gaps @ weights)
        wanted = max(gap, 0) * part
        weights[mesh.shape("mouthClose")] = float(
            np.clip((wanted - gap) / self.gaps[mesh.shape("mouthClose")], -0.3, 1.1)
        )
        return weights

    def opening(self, weights: Float32[np.ndarray, " expressions"]) -> float:
        """Gap between the lips beyond that at rest, centimetres."""
        return max(float(self.gaps @ weights), 0.0)


def lip_gap(mesh: Mesh, shapes: Float[np.ndarray, "n v 3"]) -> Float[np.ndarray, " n"]:
    """Mean height between the inner lip landmarks."""
    marks = mesh.model.landmarks
    upper, lower = shapes[:, marks[61:64], 1], shapes[:, marks[[67, 66, 65]], 1]
    return (upper - lower).mean(1)
