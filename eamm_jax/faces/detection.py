"""What finds faces: MediaPipe's networks, or dlib.

MediaPipe's are used wherever they are installed, as they may be used for any purpose. dlib is used
where only dlib is installed, or where the environment variable `EAMM_FACES` is `dlib`. The variable
may also be the path of MediaPipe's `face_landmarker.task`.
"""

from __future__ import annotations

import os
from pathlib import Path

from eamm_jax.errors import UserError
from eamm_jax.faces import dlib_finder, mediapipe_finder
from eamm_jax.faces.dlib_finder import DlibFinder
from eamm_jax.faces.face import FaceFinder
from eamm_jax.faces.mediapipe_finder import MediaPipeFinder

VARIABLE = "EAMM_FACES"

DLIB = "dlib"

INSTALL = mediapipe_finder.INSTALL


def is_installed() -> bool:
    """Whether faces can be found; nothing is imported."""
    return bool(
        os.environ.get(VARIABLE) or mediapipe_finder.is_installed() or dlib_finder.is_installed()
    )


def make_finder() -> FaceFinder:
    """What finds faces, for one thread.

    Raises:
        UserError: nothing that finds faces is installed, or `EAMM_FACES` asks for what is not
            there.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked == DLIB:
        return DlibFinder()
    if asked:
        if not Path(asked).is_file():
            raise UserError(
                f"{VARIABLE} is {asked!r}: that is no file; it must be {DLIB!r}, or the path of "
                f"MediaPipe's {mediapipe_finder.FILE}"
            )
        return MediaPipeFinder(Path(asked))
    if dlib_finder.is_installed() and not mediapipe_finder.is_installed():
        return DlibFinder()
    return MediaPipeFinder()
