"""Certificates for tests, made on the spot: an authority and what it signs."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates into ``folder``; its own is ``NAME.pem``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.file = folder / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        made = _begin(self._name, self._name, self._key.public_key(), days=10)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def sign(
        self,
        name: str,
        *,
        file: str | None = None,
        dns: tuple[str, ...] = (),
        uris: tuple[str, ...] = (),
        ips: tuple[str, ...] = (),
        days: float = 1,
    ) -> tuple[Path, Path]:
        """A certificate whose CN is ``name``, and its key: ``FILE.pem`` and ``FILE.key``."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _begin(_named(name), self._name, key.public_key(), days=days)
        names: list[x509.GeneralName] = [x509.DNSName(text) for text in dns]
        names += [x509.UniformResourceIdentifier(text) for text in uris]
        names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ips]
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        certificate, private = self.folder / f"{file or name}.pem", self.folder / f"{file or name}.key"
        certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        form = serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(_PEM, form, serialization.NoEncryption()))
        return certificate, private


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=2))
    return builder.not_valid_after(now + datetime.timedelta(days=days))
