"""Errors of ``head360.errors`` ⇄ the ``Failure`` message."""

from __future__ import annotations

from head360 import errors
from head360.errors import BadInput, Head360Error
from head360.protocol.messages import Failure


class WireError(Head360Error):
    """A message that breaks the protocol; ``code`` says how (BAD_REQUEST, VERSION, …)."""

    def __init__(self, message: str, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.code = code  # shadows the class attribute: one class serves several wire codes


# Wire codes beyond those of head360.errors, and what the person at the other end sees them as.
_CODES: dict[str, type[Head360Error]] = {
    **errors.BY_CODE,
    "BAD_REQUEST": BadInput,
    "UNSUPPORTED": BadInput,
    "VERSION": BadInput,
    "LIMIT": BadInput,
    "NOT_FOUND": BadInput,
    "CONFLICT": BadInput,
    "DEADLINE": errors.TryAgain,
    "WORKER_LOST": errors.TryAgain,
    "NUMERIC": errors.ModelInvalid,
}


def failure(error: Head360Error) -> Failure:
    """The wire form of an expected error."""
    return Failure(error.code, str(error)[:2000])


def exception(answer: Failure) -> Head360Error:
    """The exception a client raises for ``answer``; unknown codes become ``Head360Error``."""
    return _CODES.get(answer.code, Head360Error)(answer.message)
