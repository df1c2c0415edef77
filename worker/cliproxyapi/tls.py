"""Whose certificate is believed, and what we show of our own. There is no way to believe any."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx

from worker.config import Upstream
from worker.errors import ConfigError

CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
PRIVATE_KEY = b" PRIVATE KEY-----"
NOT_TAKEN = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
             "HANDSHAKE_FAILURE")  # fmt: skip
"""What the other side says of the certificate we show, or do not; OpenSSL puts the protocol before it."""

NOT_SPOKEN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG",
              "UNEXPECTED_MESSAGE")  # fmt: skip
"""What OpenSSL makes of an answer that is none of TLS."""


def trust(upstream: Upstream) -> ssl.SSLContext:
    """Return what the proxy's certificate is believed by; to make one takes time and a megabyte, so keep it.

    With a `ca_file` only what that file vouches for is believed, since the connection carries the management key.

    Raises:
        ConfigError: a file is missing, or holds something else; the text names the key.
    """
    if upstream.ca_file:
        _require(upstream, "ca_file", CERTIFICATE)
        try:
            context = ssl.create_default_context(cafile=_path(upstream.ca_file))
        except ssl.SSLError as e:
            raise _bad(upstream, "ca_file", f"holds no certificate that can be read ({e.reason})") from None
    else:
        context = httpx.create_ssl_context()
    if upstream.client_cert_file:
        _show(context, upstream)
    return context


def _show(context: ssl.SSLContext, upstream: Upstream) -> None:
    """Let the context show our certificate to those who ask for one."""
    key = "client_key_file" if upstream.client_key_file else "client_cert_file"
    _require(upstream, "client_cert_file", CERTIFICATE)
    _require(upstream, key, PRIVATE_KEY)
    cert_path, key_path = _path(upstream.client_cert_file), _path(upstream.client_key_file) or None
    try:
        context.load_cert_chain(cert_path, key_path, password=lambda: b"")
    except (ssl.SSLError, ValueError) as e:
        why = getattr(e, "reason", None) or "it cannot be read"
        what = f"holds no key, without a passphrase, of the certificate in client_cert_file ({why})"
        raise _bad(upstream, key, what) from None


def _require(upstream: Upstream, key: str, mark: bytes) -> None:
    path = _path(getattr(upstream, key))
    try:
        found = Path(path).read_bytes()
    except OSError as e:
        raise _bad(upstream, key, f"cannot be read: {e.strerror}") from None
    if mark not in found:
        raise _bad(upstream, key, "is no PEM file with a " + ("certificate" if mark == CERTIFICATE else "private key"))


def _bad(upstream: Upstream, key: str, what: str) -> ConfigError:
    return ConfigError(f"upstream.{key} of {upstream.name!r}: {getattr(upstream, key)} {what}")


def _path(file: str) -> str:
    return os.path.expanduser(file)  # noqa: PTH111  # which leaves it as it is where there is no home folder


def distrust(error: BaseException) -> str | None:
    """Return why two did not trust each other, where that is what lies behind an error; else None."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, ssl.SSLError) and (cause.reason or "").endswith(NOT_TAKEN):
            return f"it does not take the client certificate, or wants one: {cause.reason}"
    return None


def no_tls(error: BaseException) -> str | None:
    """Return what to do where the other side speaks no TLS at all; None where that is not what is wrong."""
    if any(isinstance(cause, ssl.SSLError) and cause.reason in NOT_SPOKEN for cause in _causes(error)):
        return "no TLS is spoken at this port: begin upstream.url with http://, or name the port for https"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
