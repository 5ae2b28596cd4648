"""Where S3 is, and who we are there: what users of AWS's tools and of MLflow have set already."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from cas.backends.refusals import no_credentials
from cas.config import s3_endpoint, s3_ignores_tls
from cas.errors import StoreRefused

_ASKED_AGAIN = timedelta(minutes=5)


class S3Settings(NamedTuple):
    """``endpoint`` is None for Amazon's own; ``session`` is a botocore session, None where that is missing."""

    endpoint: str | None
    region: str
    ignores_tls: bool
    session: Any

    @property
    def credentials(self) -> Any:
        """botocore's, which renew themselves; None if there are none, or no botocore.

        Raises :class:`StoreRefused` if whoever hands them out does not.
        """
        try:
            return None if self.session is None else self.session.get_credentials()
        except Exception as error:
            if is_unrenewed(error):
                raise no_credentials("S3", error) from None
            raise

    @property
    def has_own_ca(self) -> bool:
        """Whether certificates are to be checked against others than those this system trusts."""
        bundle = os.environ.get("AWS_CA_BUNDLE")
        if not bundle or (self.endpoint or "").startswith("http:"):
            return False
        trusted = ssl.get_default_verify_paths()
        known = (trusted.cafile, trusted.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt")
        return not any(each and os.path.realpath(bundle) == os.path.realpath(each) for each in known)


def s3_settings() -> S3Settings:
    """From MLflow's variables, the environment, and the profile of AWS's configuration files."""
    session = _session()
    profile = session.get_scoped_config() if session else {}
    region = session.get_config_variable("region") if session else os.environ.get("AWS_REGION")
    return S3Settings(
        s3_endpoint() or profile.get("endpoint_url"),
        region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        s3_ignores_tls(),
        session,
    )


def obstore_options(settings: S3Settings) -> dict[str, Any]:
    """Keyword arguments of :class:`obstore.store.S3Store`."""
    options: dict[str, Any] = {"region": settings.region}
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    if settings.session is not None:
        credentials = settings.credentials
        if credentials is None:
            raise StoreRefused(
                "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        options["credential_provider"] = _Credentials(credentials)
    return options


def is_unrenewed(error: BaseException) -> bool:
    """Whether botocore says by this that whoever hands out credentials gave none, or such that have expired."""
    try:
        from botocore.exceptions import (
            CredentialRetrievalError,
            NoCredentialsError,
            PartialCredentialsError,
            SSOError,
            TokenRetrievalError,
        )
    except ImportError:
        return False
    named = CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, SSOError, TokenRetrievalError
    return isinstance(error, named) or (isinstance(error, RuntimeError) and "are still expired" in str(error))


class _Credentials:
    """What obstore asks for credentials, again and again: profiles, IMDS, IRSA and SSO renew theirs meanwhile."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def __call__(self) -> dict[str, Any]:
        frozen = self._credentials.get_frozen_credentials()  # renews what is about to expire
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _ASKED_AGAIN,
        }


def content_disposition(file_name: str) -> str:
    """As RFC 6266 has it: the name in full, whatever letters are in it."""
    return f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"


def _session() -> Any:
    try:
        import botocore.exceptions
        import botocore.session
    except ImportError:
        return None  # obstore reads the environment, IMDS and web identities by itself
    try:
        session = botocore.session.Session()
        session.get_scoped_config()
    except botocore.exceptions.ProfileNotFound as error:
        raise StoreRefused(f"{error}; see AWS_PROFILE") from None
    return session
