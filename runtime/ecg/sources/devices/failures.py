"""Why a connection failed, in words for a user."""

from __future__ import annotations

import ssl


def reason_of(error: Exception) -> str:
    """The reason of a failed connection. OpenSSL reads the authorities that SSL_CERT_FILE names."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted: {error.verify_message}; "
            "set SSL_CERT_FILE to the file of the authority that signed it"
        )
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS, or another version of it"
    return getattr(error, "strerror", None) or type(error).__name__
