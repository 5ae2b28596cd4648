"""What the Hub refuses, and why, in the words of :mod:`cas.errors`, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import tenacity

from cas.errors import OriginGated, OriginGone, SourceError, SourceUnavailable
from cas.streaming.http import retry_after

T = TypeVar("T")
_ATTEMPTS = 5
_LONGEST_WAIT = 60.0


def explain(what: str, endpoint: str, repo: str, status: int, headers: Mapping[str, str]) -> SourceError | None:
    """The Hub's ``X-Error-Code``, where it says more than the status. ``what`` names what was asked for."""
    match headers.get("X-Error-Code"):
        case "GatedRepo":
            return gated(what, endpoint, repo)
        case "RevisionNotFound":
            return OriginGone(f"{what}: the Hub has no such revision of {repo} (any more)")
        case "EntryNotFound":
            return OriginGone(f"{what}: the Hub has no such file in this revision of {repo}")
        case "RepoNotFound":
            return missing(what, endpoint, repo)
    return missing(what, endpoint, repo) if status in (401, 404) else None


def gated(what: str, endpoint: str, repo: str) -> OriginGated:
    return OriginGated(
        f"{what}: {repo} is gated. Accept its terms at {endpoint}/{repo}, and log in as who did:"
        " `hf auth login`, or set HF_TOKEN"
    )


def missing(what: str, endpoint: str, repo: str) -> OriginGone:
    return OriginGone(
        f"{what}: there is no {repo} at {endpoint}, or this user may not know of it. Check the name; if it is"
        " private, log in with `hf auth login`, or set HF_TOKEN"
    )


def offline(what: str) -> SourceUnavailable:
    return SourceUnavailable(f"{what}: offline mode is on (HF_HUB_OFFLINE), so the Hub is not asked")


@contextmanager
def hub_errors(what: str, endpoint: str, repo: str) -> Iterator[None]:
    """Raise what huggingface_hub raises as ours. Its messages may quote addresses with signatures: they are not
    repeated."""
    from huggingface_hub import errors

    http_error: type[Exception] = vars(errors)["HTTPError"]  # of whichever HTTP library it uses

    try:
        yield
    except errors.GatedRepoError as error:
        raise gated(what, endpoint, repo) from error
    except errors.RepositoryNotFoundError as error:
        raise missing(what, endpoint, repo) from error
    except errors.RevisionNotFoundError as error:
        raise OriginGone(f"{what}: the Hub has no such revision of {repo} (any more)") from error
    except errors.EntryNotFoundError as error:
        raise OriginGone(f"{what}: the Hub has no such file in this revision of {repo}") from error
    except errors.OfflineModeIsEnabled as error:
        raise offline(what) from error
    except errors.HfHubHTTPError as error:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if status in (429, 500, 502, 503, 504) and response is not None:
            wait = retry_after(response.headers)
            raise SourceUnavailable(f"{what}: {endpoint} answered {status}", retry_after=wait) from error
        raise SourceError(f"{what}: {endpoint} answered {status}") from error
    except (http_error, OSError) as error:
        raise SourceUnavailable(f"{what}: {endpoint} cannot be reached ({type(error).__name__})") from error


def persistently(action: Callable[[], T]) -> T:
    """Call ``action`` until it does not raise SourceUnavailable, with growing waits, a few times."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(SourceUnavailable),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=_wait,
        reraise=True,
    )(action)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, SourceUnavailable) else None
    backoff: float = tenacity.wait_random_exponential(multiplier=0.5, max=10)(state)
    return min(_LONGEST_WAIT, (asked or 0.0) + backoff)
