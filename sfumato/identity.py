"""The key that signs, one for each user of a computer, and its certificates.

It is made at first use and proves that a file is unchanged since it was signed here. It carries no
name of a person or computer.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import OutputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.x509 import ExtensionType, Name

_ORGANIZATION = "Sfumato"
_KEY_FILE = "content-credentials.pem"


@dataclass(frozen=True)
class Identity:
    """A signing key with its certificate and the authority that certified it, all PEM."""

    key: str
    leaf: str
    authority: str

    @staticmethod
    def stored() -> Identity | None:
        """The key of this computer's user, if one was made before."""
        try:
            text = (settings_folder() / _KEY_FILE).read_text("ascii")
        except (OSError, UnicodeDecodeError, RuntimeError):  # RuntimeError: a user without a home
            return None
        blocks = [f"{block.strip()}\n" for block in text.split("\n\n") if block.strip()]
        return Identity(*blocks) if len(blocks) == 3 and _readable(*blocks) else None

    @staticmethod
    def own() -> Identity:
        """The same, made at first use: once, also when several processes start together.

        Raises:
            OutputError: The key cannot be written, or the file is damaged.
        """
        if (known := Identity.stored()) is not None:
            return known
        try:
            final = settings_folder() / _KEY_FILE
            _store(_new_identity(), final)
        except (OSError, RuntimeError) as error:
            raise OutputError(
                f"Cannot make the signing key ({error}): set SFUMATO_HOME to a folder to write in."
            ) from error
        if (stored := Identity.stored()) is None:
            raise OutputError(f"The signing key {final} is damaged: delete it, a new one is made.")
        return stored

    @property
    def chain(self) -> str:
        """Both certificates, the signer's first."""
        return self.leaf + self.authority

    @property
    def serial(self) -> str:
        """Serial number of the signer's certificate, decimal."""
        from cryptography import x509

        return str(x509.load_pem_x509_certificate(self.leaf.encode()).serial_number)


def settings_folder() -> Path:
    """Where the key lies: SFUMATO_HOME, or the platform's place for a user's settings."""
    if chosen := os.environ.get("SFUMATO_HOME"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Sfumato"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "Sfumato"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sfumato"


def _readable(key: str, *certificates: str) -> bool:
    """Whether these are what they should be; a damaged file is told before any work."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(key.encode(), None)
        for certificate in certificates:
            x509.load_pem_x509_certificate(certificate.encode())
    except (ValueError, TypeError):  # no PEM; a key under a password
        return False
    return True


def _store(identity: Identity, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{secrets.token_hex(6)}.partial.pem")
    blocks = (identity.key, identity.leaf, identity.authority)
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("\n\n".join(block.strip() for block in blocks) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(partial, final)  # unlike a rename this never replaces another process's key
    finally:
        partial.unlink(missing_ok=True)


def _new_identity() -> Identity:
    """A certificate authority of our own and one certificate from it; the CA's key is forgotten.

    Extensions as the C2PA specification asks for them (14.5.1): digitalSignature, emailProtection.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = f"Sfumato local authority {secrets.token_hex(4)}"
    ca = _certificate(ca_name, ca_key.public_key(), ca_name, ca_key, is_ca=True)
    leaf = _certificate(
        "Sfumato local signer",
        key.public_key(),
        ca_name,
        ca_key,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]),
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Identity(private.decode(), leaf, ca)


def _certificate(
    subject: str,
    public_key: EllipticCurvePublicKey,
    issuer: str,
    issuer_key: EllipticCurvePrivateKey,
    *extensions: ExtensionType,
    is_ca: bool = False,
) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # Fixed dates: a wrong clock must not make a key that is not yet or no longer valid.
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2076, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(is_ca, 0 if is_ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _name(common_name: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = ((NameOID.ORGANIZATION_NAME, _ORGANIZATION), (NameOID.COMMON_NAME, common_name))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
