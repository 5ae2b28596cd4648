"""Reading records that somebody else may have written: whatever is wrong with one, the error names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cas.errors import CasError, MalformedRecord


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Raise what goes wrong inside as :class:`MalformedRecord` of ``key``."""
    try:
        yield
    except MalformedRecord as error:
        if error.key == key:
            raise
        raise MalformedRecord(key, str(error)) from error
    except (CasError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedRecord(key, f"{type(error).__name__}: {error}") from error
