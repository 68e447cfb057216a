"""Where a face belongs in a crop: the template, and what counts as cropped already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.faces import dlib_finder, framing
from eamm_jax.faces.dlib_finder import DlibFinder
from eamm_jax.faces.framing import is_framed, read_template
from eamm_jax.faces.similarity import Similarity, middle_square

SIZE = 256

needs_dlib = pytest.mark.skipif(not dlib_finder.is_installed(), reason="needs the extra 'dlib'")


@needs_dlib
def test_the_mean_face_is_upright_and_even():
    mean = dlib_finder.mean_face()
    left, right = mean[:8], mean[16:8:-1]
    np.testing.assert_allclose(left[:, 0] + right[:, 0], 2 * mean[8, 0], atol=0.01)
    assert mean[8, 1] == mean[:, 1].max()  # the chin is lowest


@needs_dlib
def test_the_mean_face_lies_where_the_published_template_does(shared):
    published = np.load(shared / "media" / "alignment_landmarks.npy")[framing.SOURCE_POINTS]
    ours = DlibFinder().template()[framing.SOURCE_POINTS]
    np.testing.assert_allclose(ours.mean(axis=0), published.mean(axis=0), atol=0.05)

    def spread(points):
        return np.sqrt(((points - points.mean(axis=0)) ** 2).sum())

    assert spread(ours) == pytest.approx(spread(published), rel=2e-3)
    nearest = framing.fit_similarity(ours, published)
    assert abs(nearest.degrees) < 0.02


def bad_templates(folder: Path) -> dict[str, tuple[np.ndarray | bytes | None, str]]:
    return {
        "absent": (None, "No such template"),
        "text": (b"68 points", "not a .npy file"),
        "shape": (np.zeros((5, 2)), r"\(5, 2\).*\(68, 2\)"),
        "objects": (np.array([{}], dtype=object), "Python objects"),
        "words": (np.full((68, 2), "x"), "<U1"),
        "nan": (np.full((68, 2), np.nan), "not those of a face"),
        "unit": (np.random.default_rng(0).uniform(size=(68, 2)), "not those of a face"),
    }


@pytest.mark.parametrize("what", bad_templates(Path()))
def test_bad_templates(tmp_path, what):
    content, words = bad_templates(tmp_path)[what]
    path = tmp_path / "template.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UserError, match=words):
        read_template(path, None)


@pytest.mark.parametrize(
    ("turn", "shift", "shape", "framed"),
    [
        (1, 0, (256, 256), True),
        (2, 0.5 + 0.5j, (512, 512), True),  # another size of it
        (1, 3 - 4j, (256, 256), True),  # by as much as landmarks vary
        (1, 20 + 0j, (256, 256), True),  # a better crop would reach out of the picture
        (1.1, -12 - 12j, (256, 256), True),
        (0.9, 10 + 10j, (256, 256), False),  # a better one is there
        (1, 0, (256, 300), False),  # not a square
        (1, -100 + 0j, (512, 512), False),  # a small face at the edge
        (0.5, -20 + 0j, (256, 256), False),
    ],
)
def test_what_counts_as_cropped(turn, shift, shape, framed):
    assert is_framed(Similarity(turn, shift), *shape, SIZE) == framed


def test_the_middle_square_is_where_it_is_cut():
    place = middle_square(100, 200, 50)
    np.testing.assert_allclose(
        place(np.array([(-0.5, -0.5), (49.5, 49.5)])), [(49.5, -0.5), (149.5, 99.5)]
    )
