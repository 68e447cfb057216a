"""Credentials are valid, notice every changed byte, and fail early and clearly."""

from __future__ import annotations

import shutil
import stat
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from eamm_jax.errors import UserError
from eamm_jax.provenance import credentials
from eamm_jax.provenance.credentials import Identity
from eamm_jax.provenance.marking import Provenance
from eamm_jax.provenance.verify import verify
from tests.provenance.conftest import write


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """As if nothing had been signed on this machine."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    credentials.local_signer.cache_clear()
    yield tmp_path / "config" / "eamm_jax"
    credentials.local_signer.cache_clear()


def test_what_is_signed_is_read(files, tmp_path):
    found = credentials.read(files["marked.mp4"])
    assert found.state == credentials.SELF_SIGNED
    assert found.signer == credentials.LOCAL_SIGNER
    assert found.generator.startswith("eamm_jax 0.")
    assert found.source_type == "trainedAlgorithmicMedia"
    assert found.problem is None
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(files["marked.mp4"].read_bytes())
    assert credentials.read(copy) == found


def test_files_without(files, tmp_path):
    for name in ("plain.mp4", "plain.png"):
        assert credentials.read(files[name]).state == credentials.NONE
    text = tmp_path / "x.txt"
    text.write_text("no media")
    assert credentials.read(text).state == credentials.NONE


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_changed_byte_is_noticed(files, tmp_path, share):
    content = bytearray(files["marked.mp4"].read_bytes())
    start, end = content.find(b"mdat") + 8, content.find(b"uuid", content.find(b"mdat"))
    content[start + int(share * (end - start))] ^= 1
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    found = credentials.read(path)
    assert found.state == credentials.BROKEN
    assert "mismatch" in found.problem


def test_a_cut_manifest_is_broken(files, tmp_path):
    content = files["marked.mp4"].read_bytes()
    path = tmp_path / "x.mp4"
    at = content.find(b"eamm_jax")
    path.write_bytes(content[:at] + b"fake_jax" + content[at + 8 :])
    assert credentials.read(path).state == credentials.BROKEN


def test_the_local_certificate_is_made_once_for_its_owner_alone(fresh, tmp_path):
    write(tmp_path / "a.mp4", Provenance())
    key = fresh / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in fresh.iterdir()) == ["certificate.pem", "key.pem"]
    before = key.read_bytes()
    credentials.local_signer.cache_clear()
    write(tmp_path / "b.mp4", Provenance())
    assert key.read_bytes() == before


@pytest.mark.parametrize("kind", ["no home", "a file in the way", "damaged"])
def test_without_a_folder_a_certificate_serves_this_process_alone(
    fresh, tmp_path, monkeypatch, kind
):
    if kind == "no home":
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setattr("pathlib.Path.home", lambda: 1 / 0)
        monkeypatch.setattr("pathlib.Path.home", _no_home)
    elif kind == "a file in the way":
        fresh.parent.write_text("")
    else:
        fresh.mkdir(parents=True)
        (fresh / "key.pem").write_text("rubbish")
        (fresh / "certificate.pem").write_text("rubbish")
    path = write(tmp_path / "a.mp4", Provenance())
    assert credentials.read(path).state == credentials.SELF_SIGNED


def _no_home():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_the_users_own_certificate_signs(make_identity, tmp_path, curve):
    identity = Identity(*make_identity(curve=curve))
    provenance = Provenance(identity)
    provenance.check()
    found = credentials.read(write(tmp_path / "x.mp4", provenance))
    assert (found.state, found.signer, found.trusted) == (
        credentials.VALID,
        "Studio Example",
        False,
    )


def refused(identity: Identity, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Provenance(identity).check()


def test_what_cannot_sign_is_said_before_work_starts(make_identity, tmp_path):
    certificate, key = make_identity()
    _, other = make_identity("Other")
    _, locked = make_identity("Locked", password=b"secret")
    _, odd = make_identity("Odd", ec.SECP256K1())
    expired = Identity(*make_identity("Expired", hours=-1))
    refused(Identity(tmp_path / "none.pem", key), "No such certificate")
    refused(Identity(certificate, tmp_path / "none.pem"), "No such key")
    refused(Identity(key, key), "not a certificate in PEM")
    refused(Identity(certificate, certificate), "not a private key in PEM")
    refused(Identity(certificate, other), "does not belong")
    refused(Identity(certificate, locked), "encrypted")
    refused(Identity(tmp_path / "Odd.cert.pem", odd), "of a kind")
    refused(expired, "valid from .* to .* only")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o604])
def test_a_key_that_everyone_can_read_signs_nothing(make_identity, mode):
    identity = Identity(*make_identity())
    identity.key.chmod(mode)
    if mode & stat.S_IROTH:
        refused(identity, f"Everyone .* can read .*: chmod 600 {identity.key}")
    else:
        Provenance(identity).check()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl plays the authority")
def test_a_time_stamp_says_when_it_was_signed(make_identity, authority, tmp_path):
    certificate, key = make_identity()
    before = datetime.now(UTC).replace(microsecond=0)
    path = write(tmp_path / "x.mp4", Provenance(Identity(certificate, key, authority)))
    found = credentials.read(path)
    assert found.state == credentials.VALID
    assert before <= datetime.fromisoformat(found.time) <= datetime.now(UTC)
    assert found.time in verify(path).lines()["credentials"]
    untimed = write(tmp_path / "y.mp4", Provenance(Identity(certificate, key)))
    assert credentials.read(untimed).time is None


def test_signing_that_fails_leaves_nothing(make_identity, tmp_path):
    identity = Identity(*make_identity(), timestamps="http://127.0.0.1:1/")
    with pytest.raises(UserError, match="Cannot sign"):
        write(tmp_path / "x.mp4", Provenance(identity))
    assert not list(tmp_path.glob("*.mp4")) + list(tmp_path.glob(".*"))


def test_without_the_extra(fresh, files, make_identity, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(credentials, "is_installed", lambda: False)
    caplog.set_level("INFO", "eamm_jax")
    for name in "ab":
        path = write(tmp_path / f"{name}.mp4", Provenance())
        assert b"trainedAlgorithmicMedia" in path.read_bytes()
        assert b"c2pa" not in path.read_bytes()
    assert len(caplog.messages) == 1  # once
    assert "eamm_jax[provenance]" in caplog.text
    assert credentials.read(files["marked.mp4"]).state == credentials.UNREAD
    credentials.signer_of.cache_clear()
    refused(Identity(*make_identity()), "extra 'provenance'")
