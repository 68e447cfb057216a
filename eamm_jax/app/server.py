"""Serves the page, to this computer alone unless asked otherwise.

Nothing is fetched from elsewhere and nothing is reported: Gradio's analytics are off, fonts are
the system's, and a content security policy has browsers refuse anything from another host.
"""

from __future__ import annotations

import fcntl
import importlib.util
import ipaddress
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eamm_jax import bundled
from eamm_jax.animate import Animator
from eamm_jax.app.limits import Limits
from eamm_jax.app.studio import Studio
from eamm_jax.errors import UserError
from eamm_jax.io.files import temporary_folder
from eamm_jax.provenance.marking import Provenance

_CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio's page starts itself with inline scripts and compiles small functions.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'self'",
    )
)

_HEADERS = [
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class _SafeHeaders:
    """ASGI middleware: has browsers keep to this host."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def is_loopback(host: str) -> bool:
    """Whether only programs on this computer reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_available() -> None:
    """Makes sure that the extra `app` is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError(
            "the studio needs the optional package gradio: "
            'install the extra, pip install "eamm_jax[app]"'
        )


def check_port(host: str, port: int) -> None:
    """Makes sure that an address can be served, before a model is loaded.

    Raises:
        UserError: it cannot; another program has it, or it is not this computer's.
    """
    if not 0 < port < 1 << 16:
        raise UserError(f"The port is {port}; it must be 1 to 65535")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"Cannot serve on {host}, port {port}: {reason}; give another port or host"
        ) from None


def address_of(host: str, port: int) -> str:
    """What to type into a browser."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_LOCK = ".in_use"


@contextmanager
def server_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder for a server, for as long as the block lasts.

    What servers left that were killed is removed: their locks ended with them.

    Raises:
        UserError: there is no place for it.
    """
    with temporary_folder(prefix) as folder, (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for other in folder.parent.glob(f"{prefix}*/{_LOCK}"):
            with suppress(OSError), other.open("r+") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other.parent, ignore_errors=True)
        yield folder


@contextmanager
def _prepared() -> Iterator[Path]:
    """Settings of Gradio, and where everything lies that visitors give and get."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio asks its own server whether it is there; not through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join([*hosts, "127.0.0.1", "localhost", "::1"])
    with server_folder("eamm_studio_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        yield folder


@contextmanager
def serving(
    load: Callable[[], Animator],
    checkpoint: Path,
    host: str,
    port: int,
    limits: Limits,
    provenance: Provenance,
) -> Iterator[str]:
    """Serves the studio while the block lasts.

    Args:
        load: makes the animator; called when the address is known to be free.
        checkpoint: the model, for the command that does the same as a form.
        host: address of one of this computer's interfaces.
        port: number.
        limits: what is taken on.
        provenance: how results are marked.

    Yields:
        The address for a browser. Afterwards all work has ended and all files are gone.

    Raises:
        UserError: the address cannot be served, or the model not be loaded.
    """
    check_available()
    check_port(host, port)
    provenance.check()
    animator = load()
    with _prepared() as folder:
        studio = Studio(animator, checkpoint, folder, limits, provenance)
        from starlette.middleware import Middleware

        from eamm_jax.app import page

        live = importlib.util.find_spec("aiortc") is not None
        blocks = page.build(studio, live=live)
        calls = None
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                share=False,
                inbrowser=False,
                quiet=True,
                show_error=False,
                max_file_size=limits.upload_megabytes << 20,
                max_threads=limits.jobs + 32,
                allowed_paths=[str(bundled.PORTRAIT.parent)],
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                theme=page.theme(),
                css=page.CSS,
                head=page.HEAD if live else None,
                app_kwargs={"middleware": [Middleware(_SafeHeaders)]},
            )
        except OSError as error:  # somebody else was faster
            raise UserError(f"Cannot serve on {host}, port {port}: {error}") from None
        if live:
            from eamm_jax.app.webrtc import Calls, offers

            calls = Calls(studio)
            # Before Gradio's own, which take every address.
            blocks.app.router.routes.insert(0, offers(calls, limits.upload_megabytes << 20))
        studio.warm_up(live=live)
        try:
            yield address_of(host, port)
        finally:
            if calls is not None:
                calls.close()
            # Work first: the server waits for what is being sent.
            studio.close()
            with suppress(OSError):
                blocks.close(verbose=False)
