"""Every exception a caller may handle.

    AffinageError                 exit 1: failed
    ├── UsageError                exit 2: the command or its input is wrong
    │   └── ConfigurationError        a setting or a declaration is wrong
    ├── RefusedError              exit 3: a gate, a guard or a brake said no, with reasons
    ├── UnknownObjectError        the named thing does not exist, or not for this caller
    ├── NotAllowedError           the caller is known and may not do this
    ├── NotAuthenticatedError     no valid token
    ├── ConflictError             somebody else changed or holds it
    ├── DocumentError             one document could not be read; the others go on
    └── DependencyError           an outside system failed; retryable says whether trying again may help

Outside exceptions become one of these in the module named after the system, with `raise ... from`.
A programmer's mistake stays a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Sequence


class AffinageError(Exception):
    """Something failed on a named object, and there is a next step.

    Parameters
    ----------
    message
        What failed, on which object, in one sentence.
    hint
        What to do next. Empty when there is nothing to do but read the message.
    retryable
        Whether the same call may succeed later without anybody changing anything.
    fields
        Machine-readable details (kind, name, path, status).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class UsageError(AffinageError):
    """The command line or a request is wrong; nothing was changed."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A setting or a declared object is wrong; nothing was changed."""


class RefusedError(AffinageError):
    """A gate, guard or brake said no. This is a decision, not a fault.

    Parameters
    ----------
    reasons
        One short sentence for each reason, for people and for the decision record.
    """

    exit_code = 3

    def __init__(self, message: str, *, reasons: Sequence[str] = (), hint: str = "", **fields: object) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields
        self.reasons = tuple(reasons)


class UnknownObjectError(AffinageError):
    """The named thing does not exist, or this caller may not know that it does."""

    def __init__(self, kind: str, name: str, *, hint: str = "") -> None:
        super().__init__(f"There is no {kind} `{name}`.", hint=hint, kind=kind, name=name)


class NotAllowedError(AffinageError):
    """The caller is known and may not do this."""


class NotAuthenticatedError(AffinageError):
    """No token, or one that is not valid."""


class ConflictError(AffinageError):
    """Somebody else changed or holds what this call needs."""


class DocumentError(AffinageError):
    """One document could not be read; the run goes on without it.

    Parameters
    ----------
    path
        The document as its source names it.
    reason
        A bounded word for metrics: `password`, `damaged`, `too_large`, `unsupported`, `no_text`, `unreadable`, `encoding`,
        `misnamed`, `no_ocr`, `too_slow`, `crashed`, `not_embedded`.
    retryable
        Whether the same bytes may be read later: the reason may have been the machine's, not the document's.
    """

    def __init__(self, path: str, reason: str, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint, retryable=retryable, path=path, reason=reason)
        self.path = path
        self.reason = reason


class DependencyError(AffinageError):
    """An outside system failed.

    Parameters
    ----------
    system
        Its name as used in module names: `mlflow`, `lancedb`, `prefect`, `database`, `engine`.
    """

    def __init__(self, system: str, message: str, *, hint: str = "", retryable: bool = True) -> None:
        super().__init__(message, hint=hint, retryable=retryable, system=system)
        self.system = system
