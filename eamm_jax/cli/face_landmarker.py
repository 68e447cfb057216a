"""`python -m eamm_jax.cli.face_landmarker`: fetches the networks that find faces, once."""

from __future__ import annotations

from collections.abc import Sequence

from eamm_jax.cli.tool import OneLineParser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Fetches the file, unless it is there."""
    parser = OneLineParser(
        description="Downloads MediaPipe's face_landmarker.task (3.8 MB, Apache 2.0) into the "
        "user's cache folder and prints where it is. The extra 'faces' runs its networks.",
    )
    parser.parse_args(argv)

    def job() -> None:
        from eamm_jax.faces.mediapipe_finder import fetch

        print(fetch())

    run(job)


if __name__ == "__main__":
    main()
