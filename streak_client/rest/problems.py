"""Every error as a problem body with the right status, and never a stack."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from realtime_bridge.auth import AccessError
from streak_client.errors import ErrorCode, RateLimitedError, StreakError
from streak_client.rest.schemas import Problem

logger = logging.getLogger("streak_client")

# The caller's faults are 4xx; a fault of what lies behind is a gateway's 5xx, whose reason is ours to read in the log.
_STATUS = {
    ErrorCode.INVALID_INPUT: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.USER_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.CONCURRENT_MODIFICATION: HTTPStatus.CONFLICT,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    ErrorCode.CONNECTION_FAILED: HTTPStatus.SERVICE_UNAVAILABLE,
}
_CAMEL = {
    "user_id": "userId",
    "activity_at": "activityAt",
    "request_id": "requestId",
    "first_day": "from",
    "last_day": "to",
}


def problem_of(error: StreakError) -> Problem:
    """Word an error of the client.

    Args:
        error: The error.

    Returns:
        The problem, without what only the operator should know.
    """
    status = _STATUS.get(error.code, HTTPStatus.BAD_GATEWAY)
    field = getattr(error, "field", None)
    detail = error.message if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Streaks cannot be reached now; try later."
    return Problem(
        title=status.phrase, status=status, code=error.code, detail=detail, field=_CAMEL.get(field or "", field)
    )


def _respond(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(mode="json"),
        problem.status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def plain_problem(status: int, code: str, detail: str, field: str | None = None) -> JSONResponse:
    """Answer with a problem.

    Args:
        status: The HTTP status.
        code: The stable code.
        detail: What is wrong, for people.
        field: The field at fault.

    Returns:
        The response.
    """
    title = HTTPStatus(status).phrase
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return _respond(Problem(title=title, status=status, code=code, detail=detail, field=field), headers)


def install(app: FastAPI) -> None:
    """Make every error of an app a problem.

    Args:
        app: The app.
    """

    @app.exception_handler(StreakError)
    def streak_error(_: Request, error: StreakError) -> JSONResponse:
        problem = problem_of(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("the REST API could not answer: %s [%s]", error.message, error.code)
        headers = {}
        if isinstance(error, RateLimitedError):
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
        return _respond(problem, headers)

    @app.exception_handler(AccessError)
    def access_error(_: Request, error: AccessError) -> JSONResponse:
        return plain_problem(error.status, error.code, str(error))

    @app.exception_handler(RequestValidationError)
    def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or None
        # Only names and reasons: the input itself may be anything.
        return plain_problem(HTTPStatus.UNPROCESSABLE_ENTITY, ErrorCode.INVALID_INPUT, str(first["msg"]), field)

    @app.exception_handler(HTTPException)
    def http_error(_: Request, error: HTTPException) -> JSONResponse:
        response = plain_problem(error.status_code, HTTPStatus(error.status_code).name, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def surprise(_: Request, error: Exception) -> JSONResponse:
        logger.error("the REST API failed", exc_info=error)
        return plain_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "Something went wrong here.")
