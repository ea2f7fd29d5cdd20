"""How clients are met at the door: TLS."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the certificate with its chain, and its key without a password. ``oldest``: ``1.2`` or ``1.3``."""

    certificate: str
    key: str
    oldest: str = "1.2"
    http2: bool = True  # offered by ALPN beside HTTP/1.1

    def context(self) -> ssl.SSLContext:
        """A new context for a listener. ValueError says which file is wrong."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if self.oldest == "1.3" else ssl.TLSVersion.TLSv1_2
        self.put_into(context)
        return context

    def put_into(self, context: ssl.SSLContext) -> None:
        """Brings all but ``oldest`` into a context in use, for the handshakes to come. ValueError as ``context``."""
        for path in (self.certificate, self.key):
            try:
                with open(path, "rb"):  # noqa: PTH123 - the path is a text from the configuration
                    pass
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise ValueError(f"{path} cannot be read: {reason}") from None
        try:
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(
                    f"the key in {self.key} is not that of the certificate in {self.certificate}"
                ) from None
            raise ValueError(
                f"{self.certificate} and {self.key} are no certificate and key in PEM without a password"
            ) from None
        context.set_alpn_protocols(["h2", "http/1.1"] if self.http2 else ["http/1.1"])
