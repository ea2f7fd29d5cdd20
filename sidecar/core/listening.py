"""How clients are met at the door: TLS, and what is noted of their calls."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MOST_PEM: Final = 4 * 1024**2  # bytes; the authorities of a whole system are 230 KiB


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """``file``: a path, or ``-`` for standard output. ``one_in``: of the calls that went well; all others are noted."""

    file: str = "-"
    one_in: int = 1


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the certificate with its chain, and its key without a password. ``oldest``: ``1.2`` or ``1.3``."""

    certificate: str
    key: str
    oldest: str = "1.2"
    http2: bool = True  # offered by ALPN beside HTTP/1.1
    client_ca: str | None = None  # whose certificates clients may show, PEM
    client_auth: str = "optional"  # or ``required``; only with ``client_ca``
    client_cert_field: bool = False  # Client-Cert to the upstream (RFC 9440)

    def context(self) -> ssl.SSLContext:
        """A new context for a listener. ValueError says which file is wrong."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_pair(context, self.certificate, self.key)
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError) as error:
                reason = error.strerror if error.errno and not isinstance(error, ssl.SSLError) else "it is no PEM"
                raise ValueError(f"{self.client_ca} holds no certificates of authorities: {reason}") from None
            # A session that is taken up again would bring back a certificate whose authority has left meanwhile.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        context.set_alpn_protocols(["h2", "http/1.1"] if self.http2 else ["http/1.1"])
        self._put_terms(context)
        return context

    def renewal(self, context: ssl.SSLContext) -> Callable[[], None]:
        """What brings all of it into a context in use, for the handshakes to come, and cannot fail. ValueError as
        ``context``."""
        fresh = self.context()

        def begin(connection: ssl.SSLObject, name: str | None, used: ssl.SSLContext) -> None:
            connection.context = fresh

        # Certificates can be added to a context and never be taken out of it again, so each handshake changes to
        # another one as soon as the client has said hello, whether it named a server or not.
        def renew() -> None:
            context.sni_callback = begin
            context.options |= fresh.options
            context.num_tickets = fresh.num_tickets
            self._put_terms(context)

        return renew

    def _put_terms(self, context: ssl.SSLContext) -> None:
        """What a connection takes over from its first context."""
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if self.oldest == "1.3" else ssl.TLSVersion.TLSv1_2
        asks = ssl.CERT_REQUIRED if self.client_auth == "required" else ssl.CERT_OPTIONAL
        context.verify_mode = ssl.CERT_NONE if self.client_ca is None else asks


def read_pem(path: str) -> bytes:
    """What a file of certificates or keys holds. ValueError says why it cannot be read, or that it is no such file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the path is a text from the configuration
            data = file.read(_MOST_PEM + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if len(data) > _MOST_PEM:
        raise ValueError(f"{path} is larger than {_MOST_PEM // 1024**2} MiB, which no file of certificates is")
    return data


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Brings a certificate and its key into ``context``. ValueError says which file is wrong."""
    for path in (certificate, key):
        read_pem(path)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"the key in {key} is not that of the certificate in {certificate}") from None
        raise ValueError(f"{certificate} and {key} are no certificate and key in PEM without a password") from None
