"""A small head made by formula, in the schema of the packed head model."""

from pathlib import Path

import numpy as np

from data.synthetic.head_model import HeadModel, Part
from data.synthetic.heads.mesh import EYE_CENTRES

NAMES = (
    *(f"brow{k}_{s}" for k in ("Down", "InnerUp", "OuterUp") for s in "LR"),
    *(f"cheek{k}_{s}" for k in ("Puff", "Squint") for s in "LR"),
    *(
        f"eye{k}_{s}"
        for k in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
        for s in "LR"
    ),
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *(f"mouth{k}_{s}" for k in ("Dimple", "Frown", "LowerDown", "Press") for s in "LR"),
    *(f"mouth{k}_{s}" for k in ("Smile", "Stretch", "UpperUp") for s in "LR"),
    *("mouthFunnel", "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower"),
    *("mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "noseSneer_L", "noseSneer_R"),
)

_Y = [14.4, 12, 8, 3, -2, -6, -8, -10, -13, -16, -19]
_SIDE = [0.4, 4.5, 6.8, 7.6, 7.0, 5.2, 4.6, 5.2, 7.0, 11.0, 12.4]
_FRONT = [0.3, 5.0, 8.6, 9.4, 9.8, 9.0, 5.0, 3.5, 3.5, 5.0, 5.8]
_BACK = [0.3, 5.0, 8.0, 9.0, 7.0, 6.0, 5.5, 5.5, 7.0, 8.0, 9.0]
_LIP_LINE, _MOUTH = -4.0, 2.4


def _sheet(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of vertices."""
    n = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (q.ravel() for q in (n[:-1, :-1], n[:-1, 1:], n[1:, :-1], n[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def _skin() -> tuple[np.ndarray, np.ndarray]:
    """The head as a grid with a slit for the mouth: vertices and triangles."""
    heights = np.sort(np.append(np.linspace(14.4, -19, 68), _LIP_LINE))[::-1]
    turn, y = np.meshgrid(np.linspace(-np.pi, np.pi, 73), heights)
    x = np.interp(-y, -np.array(_Y), _SIDE) * np.sin(turn)
    depth = [np.interp(-y, -np.array(_Y), d) for d in (_FRONT, _BACK)]
    z = np.where(np.cos(turn) > 0, *depth) * np.cos(turn)
    z = z + 2.8 * np.exp(-((x / 1.1) ** 2) - ((y - 0.8) / 1.5) ** 2) * (z > 4)
    vertices, triangles = np.stack([x, y, z], -1).reshape(-1, 3), _sheet(69, 73)
    # Below the slit, triangles hang on copies of the vertices on the lip line.
    slit = np.flatnonzero(
        (vertices[:, 1] == _LIP_LINE) & (np.abs(vertices[:, 0]) < _MOUTH) & (vertices[:, 2] > 4)
    )
    copies = np.arange(len(vertices))
    copies[slit] = len(vertices) + np.arange(len(slit))
    below = vertices[triangles][..., 1].min(1) < _LIP_LINE
    triangles[below] = copies[triangles[below]]
    return np.concatenate([vertices, vertices[slit]]), triangles


def _ball(centre: np.ndarray) -> np.ndarray:
    turn, rise = np.meshgrid(np.linspace(-np.pi, np.pi, 21), np.linspace(-1.5, 1.5, 13))
    way = np.stack([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)], -1)
    radius = 1.5 + 0.3 * np.exp(-((np.arccos(np.clip(way[..., 2:], -1, 1)) / 0.3) ** 2))
    return (centre + radius * way).reshape(-1, 3)


def _plate(y: tuple[float, float], z: float, width: float = 2.2) -> np.ndarray:
    x, height = np.meshgrid(np.linspace(-width, width, 9), np.linspace(*y, 3))
    return np.stack([x, height, np.full_like(x, z)], -1).reshape(-1, 3)


def _landmarks(skin: np.ndarray) -> np.ndarray:
    across = np.linspace(-1, 1, 17)
    jaw = np.stack([7.0 * across, 1 - 8.6 * (1 - across**2) ** 0.6, 8 - 8 * across**2], 1)
    brow = np.stack([np.linspace(1.2, 5.4, 5), np.full(5, 5.6), np.full(5, 9)], 1)
    eye = np.array([[1.7, 0], [2.6, 0.45], [3.6, 0.45], [4.5, 0], [3.6, -0.4], [2.6, -0.4]])
    eye = np.column_stack([eye + np.array([0, 3.6]), np.full(6, 9)])
    nose = [[0, 3.5, 10], [0, 2.5, 11], [0, 1.5, 12], [0, 0.8, 12]]
    nose += [[x, -0.4, 11] for x in (-1.4, -0.7, 0, 0.7, 1.4)]
    bow = np.array([-2.4, -1.5, -0.6, 0, 0.6, 1.5, 2.4])
    outer = [[x, _LIP_LINE + 0.9 * (1 - (x / 2.4) ** 2), 10] for x in bow]
    outer += [[x, _LIP_LINE - 0.9 * (1 - (x / 2.4) ** 2), 10] for x in bow[5:0:-1]]
    mirror = np.array([-1, 1, 1])
    points = [*jaw, *(brow[::-1] * mirror), *brow, *nose]
    points += [*(eye[[3, 2, 1, 0, 5, 4]] * mirror), *eye, *outer]
    marks = [int(np.linalg.norm(skin - p, axis=1).argmin()) for p in np.array(points, float)]
    lip = np.flatnonzero(skin[:, 1] == _LIP_LINE)
    lip = lip[(np.abs(skin[lip, 0]) < _MOUTH) & (skin[lip, 2] > 4)]
    upper, lower = np.split(lip, 2)
    for places, row in (((-2.2, -0.9, 0, 0.9, 2.2), upper), ((0.9, 0, -0.9), lower)):
        marks += [int(row[np.abs(skin[row, 0] - x).argmin()]) for x in places]
    return np.array(marks, np.int32)


def formula_head() -> HeadModel:
    """A head with two identity modes, and a few of the expression shapes by formula."""
    skin, skin_triangles = _skin()
    in_front = (skin[:, 2] > 0) & (skin[:, 1] > -12)
    order = np.argsort(~in_front, kind="stable")
    place = np.argsort(order)
    skin, skin_triangles = skin[order], place[skin_triangles]
    count = int(in_front.sum())
    facing = (skin_triangles < count).all(1)
    skin_triangles = skin_triangles[np.argsort(~facing, kind="stable")]
    balls = [np.concatenate([_ball(c), np.tile(c, (13 * 21 + 30, 1))]) for c in EYE_CENTRES]
    pieces = {
        "face": (skin[:count], skin_triangles[: facing.sum()]),
        "head_neck": (skin[count:], skin_triangles[facing.sum() :]),
        "mouth_socket": (_plate((-7, 0), 4.0), _sheet(3, 9)),
        "eye_socket_left": (_plate((3, 4), 4.0, 0.1), _sheet(3, 9)),
        "eye_socket_right": (_plate((3, 4), 4.0, 0.1), _sheet(3, 9)),
        "gums_tongue": (_plate((-4.4, -4.0), 8.0), _sheet(3, 9)),
        "teeth": (
            np.concatenate([_plate((-4.2, -3.2), 9.0), _plate((-5.3, -4.3), 8.8)]),
            np.concatenate([_sheet(3, 9), _sheet(3, 9) + 27]),
        ),
        "eyeball_left": (balls[0], _sheet(13, 21)),
        "eyeball_right": (balls[1], _sheet(13, 21)),
    }
    parts, vertices, triangles, ranges = {}, [], [], 0
    for name, (points, faces) in pieces.items():
        first = sum(map(len, vertices))
        offset = 0 if name in ("face", "head_neck") else first
        parts[name] = Part(first, first + len(points), ranges, ranges + len(faces))
        vertices.append(points)
        triangles.append(faces + offset)
        ranges += len(faces)
    neutral = np.concatenate(vertices).astype(np.float32)
    triangles = np.concatenate(triangles).astype(np.int32)
    x, y, z = neutral.T
    uv = np.column_stack([0.5 + np.arctan2(x, z) / 7, (y + 20) / 36])
    tile = np.zeros(len(triangles), int)
    tile[parts["head_neck"].triangles] = 1
    expression = np.zeros((len(NAMES), len(neutral), 3), np.float32)
    lower = np.zeros(len(neutral))
    lower[: len(skin)] = np.exp(-((x / 5) ** 2) - ((y + 5) / 3) ** 2)[: len(skin)]
    lower *= (y < _LIP_LINE) & (z > 2)
    lips = np.flatnonzero(
        (y == _LIP_LINE) & (np.arange(len(y)) < len(skin)) & (np.abs(x) < _MOUTH) & (z > 4)
    )
    lower[lips[len(lips) // 2 :]] = np.exp(-((x / 2.4) ** 4))[lips[len(lips) // 2 :]]
    teeth = np.arange(len(neutral))[parts["teeth"].vertices][27:]
    lower[teeth] = 1
    expression[NAMES.index("jawOpen"), :, 1] = -3.0 * lower
    lower[teeth] = 0
    expression[NAMES.index("mouthClose"), :, 1] = 3.5 * lower
    for side, (cx, cy, _) in zip("LR", EYE_CENTRES, strict=True):
        cover = np.exp(-(((x - cx) / 1.8) ** 2) - ((y - cy) / 1.6) ** 2) * (z > 4)
        cover[parts["eyeball_left"].first_vertex :] = 0
        expression[NAMES.index(f"eyeBlink_{side}"), :, 2] = 1.6 * cover
    identity = np.stack([0.04 * neutral * [1, 0, 0], 0.04 * neutral * [0, 1, 0]])
    return HeadModel(
        neutral=neutral,
        identity=identity.astype(np.float32),
        expression=expression,
        expression_names=NAMES,
        triangles=triangles,
        triangle_uv=(triangles + tile[:, None] * len(uv)).astype(np.int32),
        uv=np.concatenate([uv, uv + np.array([1, 0])]).astype(np.float32),
        parts=parts,
        landmarks=_landmarks(neutral[: len(skin)].astype(np.float64)),
    )


def save(model: HeadModel, path: Path) -> None:
    """Writes a model as `head_model.pack` does."""
    np.savez(
        path,
        neutral=model.neutral,
        identity=model.identity.astype(np.float16),
        expression=model.expression.astype(np.float16),
        expression_names=np.array(model.expression_names),
        triangles=model.triangles,
        triangle_uv=model.triangle_uv,
        uv=model.uv,
        group_names=np.array(list(model.parts)),
        group_ranges=np.array(list(model.parts.values()), np.int32),
        landmarks68=model.landmarks,
    )
