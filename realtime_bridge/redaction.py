"""Keeps keys out of the log: the libraries below the bridge log URLs, and Realtime's URL holds the key."""

import logging
import re

# Children of a logger do not pass its filters, so each logger that writes is named.
_LOGGERS = (
    "realtime._async.client",
    "realtime._async.channel",
    "realtime._async.push",
    "websockets.client",
    "websockets.server",
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "uvicorn.access",
    "uvicorn.error",
)
_SECRET = re.compile(
    r"sb_secret_[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|((?:apikey|ticket|access_token)=)[^&\s'\"]+"
)


def redact(text: str) -> str:
    """Replace keys, tokens and tickets in a text."""
    return _SECRET.sub(lambda found: f"{found.group(1) or ''}<redacted>", text)


class _Redaction(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = redact(message)
        if clean != message:
            if isinstance(record.args, tuple):
                # As many as there were: some formatters, such as that of uvicorn's access log, take them apart.
                record.args = tuple(map(_redacted, record.args))
            if record.getMessage() != clean:
                record.msg, record.args = clean, ()
        if record.exc_info:
            # The formatter would print the exception with its URL; keep its class.
            record.msg = f"{record.msg} ({record.exc_info[0].__name__ if record.exc_info[0] else 'error'})"
            record.exc_info = None
        return True


def _redacted(argument: object) -> object:
    text = str(argument)
    clean = redact(text)
    return argument if clean == text else clean


_redaction = _Redaction()


def install() -> None:
    """Redact what the libraries log, for the whole process. Idempotent."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redaction)
