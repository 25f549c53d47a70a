"""The one shape in which all errors leave: ``{"error": "one line"}``."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sfumato.errors import SfumatoError


def answer(status: int, text: str) -> JSONResponse:
    """The answer to a request that failed."""
    return JSONResponse({"error": " ".join(text.split())}, status)


def install(app: FastAPI) -> None:
    """Let every error leave in the one shape."""
    app.add_exception_handler(SfumatoError, _refused)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return answer(getattr(error, "status", HTTPStatus.BAD_REQUEST), str(error))


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    text = str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND and text == HTTPStatus.NOT_FOUND.phrase:
        text = f"there is nothing at {request.url.path}: see /api/openapi.json"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        text = f"{request.method} is not possible at {request.url.path}: see /api/openapi.json"
    response = answer(error.status_code, text)
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return answer(HTTPStatus.BAD_REQUEST, f"{place}: {first['msg']}")


async def _fault(request: Request, error: Exception) -> JSONResponse:
    text = f"a fault of the server ({type(error).__name__}): its log says more"
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, text)
