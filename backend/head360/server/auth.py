"""Who may connect: a ZAP handler with one allow-list of CURVE keys per socket.

libzmq asks the handler during each handshake, before a byte of a message is decoded. Without a
handler that answers, nobody gets in, so a fault here fails closed.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Any

import zmq

from head360.errors import NoDevice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair as Z85 text (40 characters each)."""

    public: str
    secret: str

    @staticmethod
    def new() -> KeyPair:
        """A fresh pair.

        Raises:
            NoDevice: this ZeroMQ was built without encryption; nothing runs in the clear.
        """
        if not zmq.has("curve"):
            raise NoDevice(
                "This Python's ZeroMQ has no encryption: install pyzmq from its wheels "
                "(pip install --force-reinstall pyzmq)."
            )
        public, secret = zmq.curve_keypair()
        return KeyPair(public.decode(), secret.decode())


class Doorman:
    """Answers ZAP requests from the gateway's own loop; register ``socket`` for POLLIN."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")
        self._allowed: dict[bytes, set[bytes]] = {}

    def allow(self, domain: str, public_key: str) -> None:
        """Let the owner of ``public_key`` (Z85) through the sockets of ``domain``."""
        from zmq.utils import z85

        self._allowed.setdefault(domain.encode(), set()).add(z85.decode(public_key.encode()))

    def forbid(self, domain: str, public_key: str) -> None:
        """Let the owner of ``public_key`` through no more; connections that stand stay."""
        from zmq.utils import z85

        self._allowed.get(domain.encode(), set()).discard(z85.decode(public_key.encode()))

    def guard(self, socket: zmq.Socket[Any], domain: str, keys: KeyPair) -> None:
        """Make ``socket`` a CURVE server that asks this handler. Call before ``bind``."""
        socket.curve_server = 1
        socket.curve_publickey = keys.public.encode()
        socket.curve_secretkey = keys.secret.encode()
        socket.zap_domain = domain.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)

    def answer(self) -> None:
        """Answer the waiting requests."""
        while True:
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            fits = len(request) == 7 and request[5] == b"CURVE"
            known = fits and request[6] in self._allowed.get(request[2], ())
            if not known:
                log.warning("a connection with an unknown key was refused")
            status = (b"200", b"OK", b"user") if known else (b"400", b"refused", b"")
            sequence = request[1] if len(request) > 1 else b""
            with contextlib.suppress(zmq.ZMQError):
                self.socket.send_multipart([b"1.0", sequence, *status, b""])
