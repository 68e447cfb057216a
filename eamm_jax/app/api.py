"""The same animations over HTTP: `eamm-serve`, docs/serving.md.

    POST   /v1/animations             multipart form -> 202 and an address to ask at
    GET    /v1/animations/{id}        where it stands
    GET    /v1/animations/{id}/video  the mp4, as it is made or when it is done
    DELETE /v1/animations/{id}        ends it and deletes its files
    WS     /v1/live                   speech in as it comes, frames out
    GET    /v1/models                 the model, and what can be asked of it
    GET    /healthz, /metrics         for whoever watches the server

Errors are problem documents (RFC 9457) with the sentences of the command line. No path of the
machine is read or shown; uploads get names of their own.
"""

# Annotations stay objects here: FastAPI reads them, and some name what is local.

import asyncio
import hmac
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import (
    Depends,
    FastAPI,
    File,
    HTTPException,
    Request,
    UploadFile,
    WebSocket,
    WebSocketException,
    status,
)  # fmt: skip
from fastapi import Form as Field
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException

from eamm_jax import __version__
from eamm_jax.animate.timeline import MAX_STRENGTH
from eamm_jax.app import form as forms
from eamm_jax.app.live import live_animation
from eamm_jax.app.orders import Busy, Order, Orders, Status, without_folder
from eamm_jax.app.studio import Studio
from eamm_jax.constants import LAYOUTS
from eamm_jax.errors import UserError

PROBLEM = "application/problem+json"

_BODY_MARGIN = 1 << 20
"""Bytes of a request beside its files."""

_POLL_SECONDS = 0.02
"""How often a video that is being made is looked at."""

_FILES = ("portrait", "sound", "emotion_video", "head_video", "head_file", "timeline")

Call = Callable[[Request], Awaitable[Response]]


def problem(code: int, detail: str, **headers: str) -> JSONResponse:
    """The answer to a request that fails."""
    return JSONResponse(_document(code, detail), code, headers, media_type=PROBLEM)


def _document(code: int, detail: str) -> dict[str, Any]:
    """An error as RFC 9457 has it."""
    title = HTTPStatus(code).phrase
    return {"type": "about:blank", "title": title, "status": code, "detail": detail}


def make_app(studio: Studio, orders: Orders, model: str, token: str | None = None) -> FastAPI:
    """The interface of a studio.

    Args:
        studio: renders animations.
        orders: of the studio.
        model: its name.
        token: that requests must bear; None lets everybody in who can reach the address.
    """
    # FastAPI's own page of this kind loads its scripts from elsewhere.
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="eamm_jax",
        version=__version__,
        description="Talking, emotional faces from one portrait, speech and an emotion.",
    )
    uploads = studio.folder / "uploads"
    uploads.mkdir()
    _answer_with_problems(app)
    _limit_bodies(app, len(_FILES) * (studio.limits.upload_megabytes << 20) + _BODY_MARGIN)
    bearer = HTTPBearer(auto_error=False)

    def knows(given: str) -> bool:
        return token is None or hmac.compare_digest(given.encode(), token.encode())

    def allowed(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if not knows("" if given is None else given.credentials):
            raise HTTPException(401, "A bearer token is needed", {"WWW-Authenticate": "Bearer"})

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        if not knows(socket.headers.get("authorization", "").removeprefix("Bearer ")):
            raise WebSocketException(status.WS_1008_POLICY_VIOLATION, "A bearer token is needed")
        await socket.accept()
        await live_animation(socket, studio, uploads)

    def order_of(name: str) -> Order:
        order = orders.get(name)
        if order is None:
            raise HTTPException(404, "There is no such animation, or it has been deleted")
        return order

    guarded: dict[str, Any] = {"dependencies": [Depends(allowed)]}
    Ordered = Annotated[Order, Depends(order_of)]  # noqa: N806

    @app.post("/v1/animations", status_code=202, **guarded)
    def create(
        portrait: Annotated[UploadFile, File(description="picture of a face")],
        sound: Annotated[UploadFile | None, File(description="speech, or give text")] = None,
        text: Annotated[str, Field(description="to be spoken")] = "",
        accent: Annotated[str, Field(description="voice of the text")] = "en-us",
        emotion: Annotated[str, Field(description="of the model's, see /v1/models")] = "neutral",
        emotion_video: Annotated[UploadFile | None, File()] = None,
        strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)] = 1.0,
        head: Annotated[str, Field(description="motion of the head")] = forms.GENTLE,
        head_video: Annotated[UploadFile | None, File()] = None,
        head_file: Annotated[UploadFile | None, File(description="head poses, .npy")] = None,
        crop: Annotated[bool, Field(description="find the face and cut it out")] = True,
        face: Annotated[int | None, Field(ge=1, description="of several")] = None,
        paste_back: Annotated[bool, Field(description="put it back into the picture")] = False,
        layout: Annotated[str, Field()] = LAYOUTS[0],
        timeline: Annotated[UploadFile | None, File(description="key frames, CSV or JSON")] = None,
    ) -> JSONResponse:
        """Asks for an animation."""
        given = {
            "portrait": portrait, "sound": sound, "emotion_video": emotion_video,
            "head_video": head_video, "head_file": head_file, "timeline": timeline,
        }  # fmt: skip
        with ExitStack() as unless_taken:
            folder = Path(tempfile.mkdtemp(dir=uploads))
            unless_taken.callback(shutil.rmtree, folder, ignore_errors=True)
            limit = studio.limits.upload_megabytes << 20
            files = {
                name: _kept(upload, folder, name, limit)
                for name, upload in given.items()
                if upload is not None
            }
            form = forms.Form(
                **files, voice=forms.TEXT if text else forms.SOUND, text=text, accent=accent,
                emotion=forms.FROM_VIDEO if emotion_video is not None else emotion,
                strength=strength, head=head, crop=crop, face=face, paste_back=paste_back,
                layout=layout,
            )  # fmt: skip
            try:
                forms.check(form, studio.choices, studio.limits)
            except UserError as error:
                raise without_folder(error, folder) from None
            order = orders.place(form, folder)
            unless_taken.pop_all()
        return JSONResponse(_described(order), 202, {"Location": f"/v1/animations/{order.name}"})

    @app.get("/v1/animations/{name}", **guarded)
    def read(order: Ordered) -> JSONResponse:
        """Where an animation stands."""
        return JSONResponse(_described(order))

    @app.get("/v1/animations/{name}/video", response_class=FileResponse, **guarded)
    def video(order: Ordered) -> Response:
        """The video; while it is made, in fragments that play as they come."""
        if order.result is not None:
            return FileResponse(order.result.video, media_type="video/mp4")
        if order.status is Status.RUNNING:
            return StreamingResponse(_growing(order), media_type="video/mp4")
        raise HTTPException(409, f"The animation is {order.status}: there is no video")

    @app.delete("/v1/animations/{name}", status_code=204, **guarded)
    def delete(order: Ordered) -> Response:
        """Ends an animation and deletes all that belongs to it."""
        orders.cancel(order)
        return Response(status_code=204)

    @app.get("/v1/models", **guarded)
    def models() -> dict[str, Any]:
        """The model, and what can be asked of it."""
        choices = studio.choices
        return {
            "models": [
                {
                    "name": model,
                    "emotions": list(choices.emotions),
                    "emotion_from_video": choices.video,
                    "text": choices.text,
                    "heads": list(choices.heads),
                    "layouts": list(LAYOUTS),
                    "finds_faces": choices.faces,
                }
            ]
        }

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """That the server answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, **guarded)
    def metrics() -> str:
        """Counts in Prometheus' text format."""
        lines = ["# TYPE eamm_animations gauge"]
        for state in (Status.WAITING, Status.RUNNING):
            lines.append(f'eamm_animations{{status="{state}"}} {orders.count(state)}')
        lines.append("# TYPE eamm_animations_ended_total counter")
        for state in (Status.DONE, Status.FAILED, Status.CANCELLED):
            lines.append(f'eamm_animations_ended_total{{status="{state}"}} {orders.ended[state]}')
        return "\n".join(lines) + "\n"

    return app


async def _growing(order: Order) -> AsyncIterator[bytes]:
    """The bytes of a video as they are written, until it is complete or has failed."""
    with ExitStack() as opened:
        file = None
        while True:
            running = order.status is Status.RUNNING
            if file is None and order.growing.exists():
                with suppress(OSError):  # it has just ended
                    file = opened.enter_context(order.growing.open("rb"))
            piece = b"" if file is None else file.read(1 << 16)
            if piece:
                yield piece
            elif running:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return


def _described(order: Order) -> dict[str, Any]:
    here = f"/v1/animations/{order.name}"
    described: dict[str, Any] = {
        "id": order.name,
        "status": order.status,
        "frames": {"done": order.progress.done, "total": order.progress.total},
        "seconds_left": order.progress.seconds_left,
        "links": {"self": here, "video": f"{here}/video"},
    }
    if order.error:
        described["problem"] = _document(422, order.error)
    return described


def _kept(upload: UploadFile, folder: Path, name: str, limit: int) -> Path:
    """An upload as a file of our own name, which keeps the kind that its name tells."""
    suffix = PurePosixPath(upload.filename or "").suffix.lower()
    path = folder / (name + (suffix if suffix[1:].isalnum() and len(suffix) < 8 else ""))
    with path.open("xb") as file:
        while piece := upload.file.read(1 << 20):
            if file.tell() + len(piece) > limit:
                raise HTTPException(413, f"{name} is larger than {limit >> 20} MB")
            file.write(piece)
    return path


def _answer_with_problems(app: FastAPI) -> None:
    @app.exception_handler(UserError)
    def bad_input(_: Request, error: UserError) -> Response:
        return problem(422, str(error))

    @app.exception_handler(Busy)
    def busy(_: Request, error: Busy) -> Response:
        return problem(429, str(error), **{"Retry-After": str(error.retry_after)})

    @app.exception_handler(StarletteHTTPException)
    def refused(_: Request, error: StarletteHTTPException) -> Response:
        return problem(error.status_code, str(error.detail), **dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def wrong_field(_: Request, error: RequestValidationError) -> Response:
        faults = (
            f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}"
            for fault in error.errors()
        )
        return problem(422, "; ".join(faults))


def _limit_bodies(app: FastAPI, limit: int) -> None:
    """Refuses requests that are too large before they are read."""

    @app.middleware("http")
    async def check(request: Request, call: Call) -> Response:
        length = request.headers.get("content-length")
        if request.method == "POST":
            if length is None or not length.isdecimal():
                return problem(411, "The length of the request must be given (Content-Length)")
            if int(length) > limit:
                return problem(413, f"The request is larger than {limit >> 20} MB")
        return await call(request)
