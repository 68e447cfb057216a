"""`eamm-serve`: animations over HTTP, for other programs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eamm_jax.app.limits import Limits
from eamm_jax.cli.provenance import identity_of
from eamm_jax.cli.studio import add_server_flags, load
from eamm_jax.cli.tool import EXIT_TERMINATED, OneLineParser, add_shared, fields_of, run
from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable

DESCRIPTION = """\
Serves animations over HTTP (docs/serving.md). Only this computer reaches it unless --host says
otherwise. What is uploaded is deleted when its animation ends, results some time after."""

EXAMPLE = """\
examples:
  %(prog)s
  %(prog)s --checkpoint weights --port 8000 --jobs 2
  curl -F portrait=@face.png -F sound=@speech.wav http://127.0.0.1:8080/v1/animations
"""

TOKEN = "EAMM_SERVE_TOKEN"
"""Environment variable with the token that requests must bear."""


_LAST_SECONDS = 5
"""For answers that are under way when the server ends."""


def flag_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = OneLineParser(description=DESCRIPTION, epilog=EXAMPLE)
    add_shared(parser, "checkpoint")
    add_server_flags(parser, port=8080)
    parser.add_argument(
        "--token_file",
        type=Path,
        metavar="FILE",
        help=f"holds the token that requests must bear (Authorization: Bearer ...); default: "
        f"the environment variable {TOKEN}; without either, everybody who reaches the address "
        "is let in",
    )
    running = parser.add_argument_group("running")
    add_shared(running, "chunk", "dtype", "cpu")
    return parser


def token_of(file: Path | None) -> str | None:
    """The token of a file, or of the environment.

    Raises:
        UserError: the file cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN) or None
    token = check_readable(file, "token").read_text(errors="replace").strip()
    if not token:
        raise UserError(f"{file} holds no token")
    return token


def _serve(flags: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    from eamm_jax.app import server
    from eamm_jax.provenance.marking import Provenance

    token = token_of(flags.token_file)
    limits = Limits(**fields_of(Limits, vars(flags)))
    provenance = Provenance(identity_of(flags))
    provenance.check()
    server.check_available()
    server.check_port(flags.host, flags.port)
    animator = load(flags)

    import uvicorn

    from eamm_jax.app.api import make_app
    from eamm_jax.app.orders import Orders
    from eamm_jax.app.studio import Studio

    address = server.address_of(flags.host, flags.port)
    if token is None and not server.is_loopback(flags.host):
        print(
            f"warning: everybody who can reach {flags.host} can use this server and the "
            "computer's time: no token is set, and there is no encryption",
            file=sys.stderr,
        )

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        print(f"Serving at {address} (Ctrl-C ends it)", flush=True)
        yield

    with server.server_folder("eamm_serve_") as folder:
        studio = Studio(animator, flags.checkpoint, folder, limits, provenance)
        orders = Orders(studio)
        try:
            app = make_app(studio, orders, flags.checkpoint.name, token)
            app.router.lifespan_context = lifespan
            studio.warm_up()
            uvicorn.run(
                app, host=flags.host, port=flags.port, log_level="warning", server_header=False,
                timeout_graceful_shutdown=_LAST_SECONDS,
            )  # fmt: skip
        except SystemExit as ended:
            # To be told to end is how a server ends.
            if ended.code != EXIT_TERMINATED:
                raise
        finally:
            studio.close()
            orders.close()


def main() -> None:
    """Parses the flags and serves."""
    flags = flag_parser().parse_args()
    run(lambda: _serve(flags))


if __name__ == "__main__":
    main()
