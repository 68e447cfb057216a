"""Content Credentials (C2PA): a signed manifest in an mp4 file, written and read by `c2pa-python`.

Whoever has no certificate gets one that is made on this machine. It proves that nothing was changed
since, and not who signed.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import json
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable

LOCAL_SIGNER = "eamm_jax, self-signed"
"""Whom certificates made here name."""

VALID, SELF_SIGNED, BROKEN, NONE, UNREAD = "valid", "self-signed", "broken", "none", "not read"
"""States of credentials; `UNREAD` where the library is not installed."""

_CERTIFICATE_FILE, _KEY_FILE = "certificate.pem", "key.pem"
_LOCAL_YEARS = 10

_NEEDED = "Content Credentials need the extra 'provenance': pip install 'eamm_jax[provenance]'"

_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""Reading a file asks nobody."""

_log = logging.getLogger(__name__)


def is_installed() -> bool:
    """Whether credentials can be written and read."""
    return importlib.util.find_spec("c2pa") is not None


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who signs.

    Attributes:
        certificate: PEM file of the certificate and those that lead to its issuer's.
        key: PEM file of its private key.
        timestamps: address of a time-stamping authority (RFC 3161), or None.
    """

    certificate: Path
    key: Path
    timestamps: str | None = None

    def check(self) -> None:
        """Signs nothing, to find out whether it can be done.

        Raises:
            UserError: a file cannot be read, everyone can read the key, they do not belong
                together, the certificate is not valid now, or the extra is missing.
        """
        signer_of(self)


class Signer(NamedTuple):
    """A certificate with its key.

    Attributes:
        algorithm: as C2PA calls it.
        certificates: PEM, the signer's first.
        key: PEM.
        timestamps: as in `Identity`.
    """

    algorithm: str
    certificates: bytes
    key: bytes
    timestamps: str | None = None

    def sign(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Puts a manifest into a file.

        Args:
            path: mp4; it is replaced.
            manifest: its definition, as `c2pa-python` takes it.

        Raises:
            UserError: it cannot be done; the file is as it was.
        """
        import c2pa

        signed = path.with_name(f"{path.stem}.signed{path.suffix}")
        try:
            info = c2pa.C2paSignerInfo(
                alg=getattr(c2pa.C2paSigningAlg, self.algorithm.upper()),
                sign_cert=self.certificates,
                private_key=self.key,
                ta_url=self.timestamps.encode() if self.timestamps else None,
            )
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
                builder.sign_file(path, signed, signer)
            signed.replace(path)
        except c2pa.C2paError as error:
            words = " ".join(str(error).split())
            raise UserError(f"Cannot sign the video: {words}") from error
        finally:
            signed.unlink(missing_ok=True)


@cache
def signer_of(identity: Identity) -> Signer:
    """The signer for files of the user.

    Raises:
        UserError: as `Identity.check`.
    """
    if not is_installed():
        raise UserError(_NEEDED)
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    certificates = check_readable(identity.certificate, "certificate").read_bytes()
    key = check_readable(identity.key, "key").read_bytes()
    try:
        certificate = x509.load_pem_x509_certificates(certificates)[0]
    except ValueError:
        raise UserError(f"{identity.certificate} is not a certificate in PEM") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except TypeError:
        raise UserError(
            f"The key {identity.key} is encrypted; give one without a password"
        ) from None
    except Exception:  # ValueError, and exceptions of the library's own
        raise UserError(f"{identity.key} is not a private key in PEM") from None
    if os.name == "posix" and identity.key.stat().st_mode & stat.S_IROTH:
        raise UserError(
            f"Everyone on this machine can read the key {identity.key}: chmod 600 {identity.key}"
        )
    if private.public_key() != certificate.public_key():
        raise UserError(
            f"The key {identity.key} does not belong to the certificate {identity.certificate}"
        )
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= datetime.datetime.now(datetime.UTC) <= last:
        raise UserError(
            f"The certificate {identity.certificate} is valid from {first:%Y-%m-%d %H:%M} to "
            f"{last:%Y-%m-%d %H:%M} only (UTC)"
        )
    return Signer(_algorithm(identity.key, private), certificates, key, identity.timestamps)


def _algorithm(path: Path, private: Any) -> str:
    """C2PA's name of what a key signs with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey):
        names = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in names:
            return names[private.curve.name]
    elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise UserError(
        f"The key {path} is of a kind that Content Credentials do not know; allowed are P-256, "
        "P-384, P-521, Ed25519, and RSA from 2048 bits"
    )


@cache
def local_signer() -> Signer | None:
    """The signer made on this machine, once; None where the extra is not installed.

    Its files are in the user's configuration folder. Where that cannot be written to, or what is
    there cannot be read, a signer is made for this process alone.
    """
    if not is_installed():
        _log.info("no Content Credentials are written: %s", _NEEDED.partition(": ")[2])
        return None
    folder = configuration_folder()
    if folder is not None:
        identity = Identity(folder / _CERTIFICATE_FILE, folder / _KEY_FILE)
        try:
            if not (identity.certificate.exists() and identity.key.exists()):
                _write(identity, *_made())
            return signer_of(identity)
        except (OSError, UserError) as error:
            _log.warning("the certificate in %s is not used: %s", folder, error)
    return Signer("es256", *_made())


def configuration_folder() -> Path | None:
    """The project's folder for what it keeps of the user, or None if it cannot be made.

    `XDG_CONFIG_HOME`, `APPDATA` on Windows, else `~/.config`.
    """
    base = Path(os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA") or "")
    try:
        folder = (base if base.is_absolute() else Path.home() / ".config") / "eamm_jax"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError):  # no home, no permission, not a folder
        return None
    return folder


def _write(identity: Identity, certificates: bytes, key: bytes) -> None:
    """Writes both files, which only their owner can read, or neither."""
    with tempfile.TemporaryDirectory(dir=identity.key.parent, prefix=".") as made:
        for path, content in ((identity.key, key), (identity.certificate, certificates)):
            new = Path(made, path.name)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        # Another process may do the same: a pair that is mixed is noticed by `signer_of`.
        for path in (identity.key, identity.certificate):
            Path(made, path.name).replace(path)


def _made() -> tuple[bytes, bytes]:
    """Certificates and key, in PEM.

    C2PA wants a certificate that another one signed; the key of that one is forgotten.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: "eamm_jax", NameOID.COMMON_NAME: common}
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts.items()])

    def usage(*allowed: str) -> x509.KeyUsage:
        names = (
            *("digital_signature", "content_commitment", "key_encipherment", "key_cert_sign"),
            *("data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"),
        )
        return x509.KeyUsage(**{name: name in allowed for name in names})

    issuer = name(f"eamm_jax {secrets.token_hex(4)}")

    def certificate(
        subject: x509.Name, owner: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer, subject, owner.public_key(), x509.random_serial_number(),
            now - datetime.timedelta(days=1), now + datetime.timedelta(days=365 * _LOCAL_YEARS),
        )  # fmt: skip

    root = (
        certificate(issuer, issuer_key)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(usage("key_cert_sign", "crl_sign"), critical=True)
    )
    leaf = (
        certificate(name(LOCAL_SIGNER), key)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(usage("digital_signature"), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    pem = serialization.Encoding.PEM
    chain = [built.sign(issuer_key, hashes.SHA256()).public_bytes(pem) for built in (leaf, root)]
    unencrypted = serialization.NoEncryption()
    return b"".join(chain), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted)


class Credentials(NamedTuple):
    """What a file's credentials say.

    Attributes:
        state: `VALID`, `SELF_SIGNED`, `BROKEN`, `NONE` or `UNREAD`.
        signer: whom the certificate names.
        trusted: whether that was checked by a list of trusted issuers.
        generator: the program, with its version.
        source_type: IPTC's term.
        problem: what is broken.
        time: when an authority saw the signature (ISO 8601).
    """

    state: str
    signer: str | None = None
    trusted: bool = False
    generator: str | None = None
    source_type: str | None = None
    problem: str | None = None
    time: str | None = None


def read(path: Path) -> Credentials:
    """Reads and checks the credentials of a file of any kind."""
    if not is_installed():
        return Credentials(UNREAD)
    import c2pa

    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            path.open("rb") as file,
            c2pa.Reader(None, file, context=context) as reader,
        ):
            state = reader.get_validation_state()
            read = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return Credentials(NONE)
    except c2pa.C2paError.NotSupported:
        return Credentials(NONE)
    except (c2pa.C2paError, ValueError) as error:
        return Credentials(BROKEN, problem=" ".join(str(error).split()))
    manifest = read.get("manifests", {}).get(read.get("active_manifest"), {})
    failures = [
        status.get("explanation") or status.get("code", "unknown")
        for status in read.get("validation_status", [])
        if status.get("code") != "signingCredential.untrusted"
    ]
    signature = manifest.get("signature_info", {})
    signer = signature.get("common_name") or signature.get("issuer")
    generators = [
        " ".join(filter(None, (info.get("name"), info.get("version"))))
        for info in manifest.get("claim_generator_info", [])
    ]
    sources = [
        action["digitalSourceType"].rpartition("/")[2]
        for assertion in manifest.get("assertions", [])
        if assertion.get("label", "").startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
        if action.get("digitalSourceType")
    ]
    valid = SELF_SIGNED if signer == LOCAL_SIGNER else VALID
    return Credentials(
        BROKEN if failures or state == "Invalid" else valid,
        signer=signer,
        trusted=state == "Trusted",
        generator=next(iter(generators), None),
        source_type=next(iter(sources), None),
        problem="; ".join(failures) or None,
        time=signature.get("time"),
    )
