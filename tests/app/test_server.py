"""Addresses: who is told that others can come in, and ports that others have."""

from __future__ import annotations

import socket

import pytest

from eamm_jax.app import server
from eamm_jax.errors import UserError


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.2", False),
        ("studio.example", False),
    ],
)
def test_loopback(host, private):
    assert server.is_loopback(host) == private


def test_a_port_that_is_taken_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"Cannot serve on 127.0.0.1, port {port}: address"):
            server.check_port("127.0.0.1", port)
    server.check_port("127.0.0.1", port)


def test_a_port_that_is_none_is_answered():
    with pytest.raises(UserError, match="port is 99999; it must be 1 to 65535"):
        server.check_port("127.0.0.1", 99_999)


def test_addresses_can_be_typed_into_a_browser():
    assert server.address_of("127.0.0.1", 7860) == "http://127.0.0.1:7860"
    assert server.address_of("::1", 7860) == "http://[::1]:7860"
