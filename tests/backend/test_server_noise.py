"""A client with the right key that talks nonsense: the gateway answers or ignores, and lives."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import zmq

from head360 import connection, protocol
from head360.client import Client
from head360.launcher import LocalBackend

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol"))
from test_framing import mutate, requests


def test_a_gateway_survives_damaged_messages(backend: LocalBackend) -> None:
    content = connection.read(backend.connection_file)
    context: zmq.Context[Any] = zmq.Context()
    rng = random.Random(2)
    vectors = requests()[:-1]  # a healthy shutdown would be obeyed
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.curve_serverkey = content.server_public.encode()
        dealer.curve_publickey = content.client_public.encode()
        dealer.curve_secretkey = content.client_secret.encode()
        dealer.connect(content.endpoint)
        answers = 0
        for count in range(3000):
            dealer.send_multipart(mutate(rng, rng.choice(vectors)))
            while dealer.poll(0 if count % 200 else 20):
                dealer.recv_multipart()
                answers += 1
        dealer.send_multipart(protocol.REQUESTS.pack(protocol.Ping(), id="last"))
        while dealer.poll(5000):
            message = protocol.ANSWERS.unpack(dealer.recv_multipart())
            answers += 1
            if message.re == "last":
                break
        else:
            raise AssertionError("the gateway does not answer any more")
        assert answers > 100
    finally:
        context.destroy(linger=0)
    with Client.connect(backend.connection_file) as client:
        assert client.ping() < 1
        assert client.status().restarts == 0
