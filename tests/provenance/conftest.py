"""A marked video and a marked picture, and one of each that are not."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax import bundled
from eamm_jax.constants import FRAME_RATE
from eamm_jax.io.image import read_picture, write_png
from eamm_jax.io.video_writer import video_writer
from eamm_jax.provenance.marking import Provenance

NUMBER = 0xC0FFEE42


def swaying(seconds: float = 3.0, size: int = 128) -> list[np.ndarray]:
    """A portrait that sways."""
    portrait = Image.fromarray(read_picture(bundled.PORTRAIT))
    frames = []
    for number in range(round(seconds * FRAME_RATE)):
        x = 4 + 2 * np.sin(number / 9)
        y = 4 + np.sin(number / 6)
        side = portrait.width - 8
        box = (x, y, x + side, y + side)
        frames.append(np.asarray(portrait.resize((size, size), Image.Resampling.BICUBIC, box)))
    return frames


def write(path: Path, provenance: Provenance | None, **options) -> Path:
    """A video of two seconds, or a picture."""
    mark = None if provenance is None else provenance.mark(**options)
    if path.suffix == ".png":
        write_png(path, swaying(0.1)[0], mark)
        return path
    with video_writer(path, 128, 128, mark=mark) as video:
        for frame in swaying(2.0):
            video.write(frame)
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("provenance")
    ours = Provenance(number=NUMBER)
    return {
        "marked.mp4": write(
            folder / "marked.mp4", ours, inputs=[("portrait", str(bundled.PORTRAIT))]
        ),
        "plain.mp4": write(folder / "plain.mp4", None),
        "marked.png": write(folder / "marked.png", ours, composite=True),
        "plain.png": write(folder / "plain.png", None),
    }


@pytest.fixture
def make_identity(tmp_path) -> Callable[..., tuple[Path, Path]]:
    """Writes a certificate, of the kind that C2PA wants, and its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def make(
        name: str = "Studio Example",
        curve: ec.EllipticCurve | None = None,
        password=None,
        hours=9,
        purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ):
        root, key = (ec.generate_private_key(curve or ec.SECP384R1()) for _ in range(2))
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuer of the test")])
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
        certificate = (
            x509.CertificateBuilder()
            .issuer_name(issuer)
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(hours=hours))
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([purpose]),
                critical=purpose == ExtendedKeyUsageOID.TIME_STAMPING,
            )
            .add_extension(identifier, critical=False)
            .sign(root, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        locked = serialization.NoEncryption()
        if password is not None:
            locked = serialization.BestAvailableEncryption(password)
        paths = tmp_path / f"{name}.cert.pem", tmp_path / f"{name}.key.pem"
        paths[0].write_bytes(certificate.public_bytes(pem))
        paths[1].touch(0o600)
        paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, locked))
        return paths

    return make


@pytest.fixture
def authority(make_identity, tmp_path) -> Iterator[str]:
    """The address of a time-stamping authority (RFC 3161) that `openssl` runs."""
    from cryptography.x509.oid import ExtendedKeyUsageOID

    certificate, key = make_identity("Authority", purpose=ExtendedKeyUsageOID.TIME_STAMPING)
    question, settings = tmp_path / "question.tsq", tmp_path / "authority.cnf"
    (tmp_path / "serial").write_text("01\n")
    settings.write_text(
        "[tsa]\ndefault_tsa = it\n[it]\n"
        f"serial = {tmp_path / 'serial'}\nsigner_cert = {certificate}\nsigner_key = {key}\n"
        "signer_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256, sha384, sha512\n"
        "ess_cert_id_alg = sha256\n"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            asked = ["openssl", "ts", "-reply", "-config", settings, "-queryfile", question]
            answer = subprocess.run(asked, check=True, capture_output=True).stdout
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
