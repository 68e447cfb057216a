"""Flags that say how videos are marked."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eamm_jax.constants import LABEL_CORNERS
from eamm_jax.errors import UserError

if TYPE_CHECKING:
    from eamm_jax.provenance.credentials import Identity
    from eamm_jax.provenance.marking import Provenance

CERTIFICATE, KEY, TIMESTAMPS = "EAMM_SIGN_CERT", "EAMM_SIGN_KEY", "EAMM_SIGN_TIMESTAMPS"
"""Environment variables that stand for the flags of these names."""


def add_provenance(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of how videos are marked, and of who signs."""
    marks = parser.add_argument_group("what the video says of itself")
    marks.add_argument(
        "--no_provenance",
        action="store_true",
        help="no watermark, no IPTC metadata, no Content Credentials",
    )
    marks.add_argument("--label", metavar="TEXT", help="that every frame shows: 'AI-generated'")
    marks.add_argument(
        "--label_corner",
        choices=LABEL_CORNERS,
        default=LABEL_CORNERS[0],
        help="default: %(default)s",
    )
    marks.add_argument(
        "--label_size",
        type=float,
        default=0.05,
        help="height of its letters, of the picture's; default: %(default)s",
    )
    add_signer(marks)


def add_signer(target: Any) -> None:
    """Adds the flags of who signs the Content Credentials to a parser or one of its groups."""
    target.add_argument(
        "--sign_cert",
        type=Path,
        metavar="PEM",
        help="certificates to sign Content Credentials with, yours first; default: "
        f"{CERTIFICATE}, else one made on this machine (needs the extra 'provenance')",
    )
    target.add_argument(
        "--sign_key", type=Path, metavar="PEM", help=f"its private key; default: {KEY}"
    )
    target.add_argument(
        "--sign_timestamps",
        metavar="URL",
        help=f"time-stamping authority (RFC 3161) to ask; default: {TIMESTAMPS}, else none",
    )


def provenance_of(flags: argparse.Namespace) -> Provenance | None:
    """How the flags want videos to be marked; None is not at all.

    Raises:
        UserError: they contradict each other.
    """
    from eamm_jax.provenance.label import Label
    from eamm_jax.provenance.marking import Provenance

    if flags.no_provenance:
        if flags.label or flags.sign_cert or flags.sign_key or flags.sign_timestamps:
            raise UserError("--no_provenance is given, and so is what to mark with; choose one")
        return None
    label = None
    if flags.label is not None:
        label = Label(flags.label, flags.label_corner, flags.label_size)
    return Provenance(identity_of(flags), label)


def identity_of(flags: argparse.Namespace) -> Identity | None:
    """Who signs, by the flags and the environment; None is nobody in particular.

    Raises:
        UserError: a part is missing.
    """
    from eamm_jax.provenance.credentials import Identity

    given = flags.sign_cert, flags.sign_key, flags.sign_timestamps
    certificate, key, timestamps = (
        flag or os.environ.get(name) or None
        for flag, name in zip(given, (CERTIFICATE, KEY, TIMESTAMPS), strict=True)
    )
    if (certificate is None) != (key is None):
        raise UserError(
            f"Signing needs both --sign_cert ({CERTIFICATE}) and --sign_key ({KEY}); give both"
        )
    if certificate is None and timestamps is not None:
        raise UserError("Time stamps need --sign_cert and --sign_key; give both")
    if certificate is None or key is None:
        return None
    return Identity(Path(certificate), Path(key), timestamps)
