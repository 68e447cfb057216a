"""The compiled loops of the renderer against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.synthetic.heads import kernels

SIZE = 24


def random_triangles(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-4, SIZE + 4, (3 * count, 2))
    screen = np.column_stack([corners, rng.uniform(1, 9, 3 * count)]).astype(np.float32)
    return screen, rng.permutation(3 * count).reshape(-1, 3).astype(np.int32)


def naive(screen: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solves for barycentric weights at every pixel of every triangle."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    depth, ident = np.full((SIZE, SIZE), np.inf), np.full((SIZE, SIZE), -1)
    for n, corners in enumerate(screen[triangles].astype(np.float64)):
        system = np.vstack([corners[:, :2].T, np.ones(3)])
        weights = np.linalg.solve(system, np.stack([x, y, np.ones_like(x)]).reshape(3, -1))
        z = (corners[:, 2] @ weights).reshape(SIZE, SIZE)
        nearer = (weights.min(0).reshape(SIZE, SIZE) >= 0) & (z < depth)
        depth[nearer], ident[nearer] = z[nearer], n
    return depth, ident


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_the_z_buffer_is_the_naive_one(seed):
    screen, triangles = random_triangles(seed)
    depth = np.full((SIZE, SIZE), kernels.FAR, np.float32)
    ident = np.full((SIZE, SIZE), -1, np.int32)
    bary = np.zeros((SIZE, SIZE, 2), np.float32)
    kernels.rasterize(screen, triangles, 0, depth, ident, bary)
    expected, owner = naive(screen, triangles)
    # Pixels whose centres lie on an edge to float32's precision may go either way.
    same = ident == owner
    assert same.mean() > 0.99
    hit = same & (ident >= 0)
    np.testing.assert_allclose(depth[hit], expected[hit], rtol=1e-3)
    weights = np.concatenate([bary, 1 - bary.sum(-1, keepdims=True)], -1)[hit]
    where = (screen[triangles[ident[hit]]][..., :2] * weights[..., None]).sum(1)
    y, x = np.nonzero(hit)
    np.testing.assert_allclose(where, np.stack([x, y], 1) + 0.5, atol=1e-2)
    alone = np.full((SIZE, SIZE), kernels.FAR, np.float32)
    kernels.rasterize(screen, triangles, 0, alone)
    np.testing.assert_array_equal(alone, depth)


def test_one_sided_triangles_are_seen_from_their_front():
    screen = np.array([[2, 2, 5], [2, 20, 5], [20, 2, 5]], np.float32)  # counter-clockwise
    seen = []
    for order in ([0, 1, 2], [0, 2, 1]):
        for one_sided in (0, 1):
            depth = np.full((SIZE, SIZE), kernels.FAR, np.float32)
            ident = np.full((SIZE, SIZE), -1, np.int32)
            bary = np.zeros((SIZE, SIZE, 2), np.float32)
            triangles = np.array([order], np.int32)
            kernels.rasterize(screen, triangles, one_sided, depth, ident, bary)
            seen.append((ident >= 0).any())
    assert seen == [True, True, True, False]


def test_normals_of_a_sphere_point_outwards():
    across, down = np.meshgrid(np.linspace(0, 2 * np.pi, 40), np.linspace(0.2, 2.9, 30))
    points = np.stack(
        [np.sin(down) * np.cos(across), np.cos(down), np.sin(down) * np.sin(across)], -1
    )
    n = np.arange(30 * 40).reshape(30, 40)
    a, b, c, d = (part.ravel() for part in (n[:-1, :-1], n[:-1, 1:], n[1:, :-1], n[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    flat = points.reshape(-1, 3).astype(np.float32)
    normals = kernels.vertex_normals(flat, triangles.astype(np.int32)).reshape(30, 40, 3)
    inner = (normals * points)[2:-2, 2:-2].sum(-1)
    assert np.abs(inner).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)


def test_shapes_add_up():
    rng = np.random.default_rng(0)
    shapes = rng.normal(size=(4, 7, 3)).astype(np.float32)
    weights = np.array([0.5, 0, -1, 2], np.float32)
    start = rng.normal(size=(7, 3)).astype(np.float32)
    out = start.copy()
    kernels.add_shapes(out, shapes, weights)
    np.testing.assert_allclose(out, start + np.tensordot(weights, shapes, 1), atol=1e-5)


def test_noise_is_smooth_bounded_and_depends_on_its_seed():
    points = np.random.default_rng(0).uniform(-20, 20, (4000, 3)).astype(np.float32)
    one, other = kernels.noise(points, 1.7, 1), kernels.noise(points, 1.7, 2)
    assert np.abs(one).max() <= 1
    assert abs(one.mean()) < 0.05
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    moved = kernels.noise(points + np.float32(1e-3), 1.7, 1)
    assert np.abs(moved - one).max() < 0.02


def test_distance_from_a_line_is_the_least_to_its_points():
    line = np.array([[0, 0], [2, 0], [2, 3]], np.float32)
    points = np.random.default_rng(0).uniform(-2, 5, (50, 2)).astype(np.float32)
    t = np.linspace(0, 1, 2001)[:, None]
    many = np.concatenate([line[0] + t * (line[1] - line[0]), line[1] + t * (line[2] - line[1])])
    nearest = np.linalg.norm(points[:, None] - many, axis=-1).min(1)
    np.testing.assert_allclose(kernels.line_distance(points, line), nearest, atol=2e-3)


def test_segments_are_sorted_by_depth():
    depth = np.random.default_rng(0).uniform(3, 9, 500).astype(np.float32)
    order = kernels.nearest_first(depth)
    assert sorted(order) == list(range(500))
    assert np.diff(depth[order]).min() > -6 / 2047 - 1e-6


def strand_on(*, at: float, width: float, behind: bool) -> np.ndarray:
    """The light that passes a vertical strand in front of, or behind, a surface."""
    screen = np.array([[[at, -5, 5], [at, SIZE + 5, 5]]], np.float32)
    depth = np.full((2 * SIZE, 2 * SIZE), 3 if behind else 8, np.float32)
    rgb, through = np.zeros((SIZE, SIZE, 3), np.float32), np.ones((SIZE, SIZE), np.float32)
    kernels.draw_strands(
        rgb,
        through,
        np.zeros((SIZE, SIZE), np.uint8),
        np.zeros((SIZE, SIZE), np.float32),
        screen,
        np.ones_like(screen),
        np.full((1, 2), width, np.float32),
        np.ones(1, np.float32),
        np.full(1, kernels.HAIR, np.int32),
        depth,
        np.zeros(1, np.int64),
    )
    np.testing.assert_allclose(rgb[..., 0] + through, 1, atol=1e-5)
    return 1 - through


@pytest.mark.parametrize("at", [10.0, 10.3, 10.5, 10.9])
@pytest.mark.parametrize("width", [0.3, 1.0, 2.4])
def test_a_strand_covers_its_width_wherever_it_lies(at, width):
    cover = strand_on(at=at, width=width, behind=False)
    # A box of a pixel's width is only nearly the exact area: a sixth of a pixel at most.
    np.testing.assert_allclose(cover.sum(1), width, atol=0.17)
    assert np.ptp(cover, axis=0).max() < 1e-5


def test_surfaces_hide_strands_behind_them():
    assert strand_on(at=10.3, width=2, behind=True).max() == 0
