"""What happens when something dies, is missing, or does not belong here. Real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
from server_tools import ENV, FACTORY, frames, start, until

from head360 import connection, protocol
from head360.client import Client, Failed
from head360.errors import BadInput, TryAgain
from head360.launcher import LocalBackend, State, clean_environment
from head360.rendering.cameras import orbit
from head360.server.auth import KeyPair

NEUTRAL = np.zeros(52, np.float32)
FRONT = orbit(0, 0)


def test_the_connection_file_is_private(backend: LocalBackend) -> None:
    file = backend.connection_file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    content = connection.read(file)
    assert content.endpoint.startswith("tcp://127.0.0.1:")
    assert os.path.exists(f"/proc/{content.pid}") or sys.platform != "linux"


def test_a_file_others_can_read_is_not_used(backend: LocalBackend, tmp_path: Path) -> None:
    copy = tmp_path / "connection-x.json"
    copy.write_bytes(backend.connection_file.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(BadInput, match="not private"):
        Client.connect(copy)
    copy.chmod(0o600)
    copy.write_bytes(copy.read_bytes()[:50])
    with pytest.raises(BadInput, match="damaged"):
        Client.connect(copy)


@pytest.mark.parametrize("wrong", ["client key", "server key"])
def test_a_wrong_key_gets_nothing(backend: LocalBackend, tmp_path: Path, wrong: str) -> None:
    pair = KeyPair.new()
    right = connection.read(backend.connection_file)
    if wrong == "client key":
        changed = msgspec.structs.replace(
            right, client_public=pair.public, client_secret=pair.secret
        )
    else:
        changed = msgspec.structs.replace(right, server_public=pair.public)
    tmp_path.chmod(0o700)
    file = connection.write(tmp_path, changed)
    begin = time.monotonic()
    with pytest.raises(TryAgain, match="does not accept"):
        Client.connect(file, timeout=3)
    assert time.monotonic() - begin < 6
    with Client.connect(backend.connection_file) as client:  # the right key still opens
        client.ping()


def test_clients_without_encryption_get_nothing(backend: LocalBackend) -> None:
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(connection.read(backend.connection_file).endpoint)
        dealer.send_multipart(protocol.REQUESTS.pack(protocol.Hello(), id="1"))
        assert dealer.poll(1000) == 0
    finally:
        context.destroy(linger=0)


def test_a_client_key_does_not_open_the_workers_door(backend: LocalBackend) -> None:
    """Every other listening port of the gateway refuses a client's key."""
    tables = Path("/proc/net/tcp")
    if not tables.exists():
        pytest.skip("needs /proc")
    content = connection.read(backend.connection_file)
    inodes = {
        os.readlink(f"/proc/{content.pid}/fd/{name}")
        for name in os.listdir(f"/proc/{content.pid}/fd")
        if os.path.exists(f"/proc/{content.pid}/fd/{name}")
        or os.path.islink(f"/proc/{content.pid}/fd/{name}")
    }
    ports = set()
    for line in tables.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            address, port = fields[1].split(":")
            assert address == "0100007F"  # loopback alone
            ports.add(int(port, 16))
    assert len(ports) == 2
    own = int(content.endpoint.rsplit(":", 1)[1])
    assert _lets_in(content, own)
    (worker,) = ports - {own}
    assert not _lets_in(content, worker)


def _lets_in(keys: connection.Connection, port: int) -> bool:
    """Whether the client's keys get through the handshake of ``port``."""
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.curve_serverkey = keys.server_public.encode()
        dealer.curve_publickey = keys.client_public.encode()
        dealer.curve_secretkey = keys.client_secret.encode()
        events = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send_multipart(protocol.REQUESTS.pack(protocol.Ping(), id="1"))
        answered = dealer.poll(1500) > 0
        shaken = events.poll(0) > 0
        dealer.disable_monitor()
        return answered or shaken
    finally:
        context.destroy(linger=0)


def test_noise_on_the_port_is_ignored(backend: LocalBackend) -> None:
    port = int(connection.read(backend.connection_file).endpoint.rsplit(":", 1)[1])
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\0" * 200, os.urandom(4096)):
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(noise)
    with Client.connect(backend.connection_file) as client:
        client.ping()


def test_a_killed_worker_fails_the_job_and_comes_back(backend: LocalBackend) -> None:
    with Client.connect(backend.connection_file) as client:
        crash = client.create_head("fake", "crash")
        fine = client.create_head("fake")
        begin = time.monotonic()
        with pytest.raises(TryAgain, match="render process stopped"):
            client.render_frame(crash.head_id, NEUTRAL, FRONT, 8, 8)
        assert time.monotonic() - begin < 3
        rgba, _ = client.render_frame(fine.head_id, NEUTRAL, FRONT, 8, 8)
        assert rgba[4, 4, 3] == 255
        assert client.status().restarts >= 1
        job = client.render_sequence(crash.head_id, frames(3), 8, 8)
        with pytest.raises(TryAgain):
            job.wait(timeout=10)
        client.render_frame(fine.head_id, NEUTRAL, FRONT, 8, 8)


def test_nobody_there_is_said_in_bounded_time(tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="No backend is running"):
        Client.connect(tmp_path / "connection-none.json")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = KeyPair.new()
    tmp_path.chmod(0o700)
    stale = connection.Connection(
        f"tcp://127.0.0.1:{port}", pair.public, pair.public, pair.secret, 1, "stale", "0"
    )
    begin = time.monotonic()
    with pytest.raises(TryAgain, match="does not answer"):
        Client.connect(connection.write(tmp_path, stale), timeout=1)
    assert time.monotonic() - begin < 3


def test_a_killed_backend_fails_pending_jobs_at_once(tmp_path: Path, models_dir: Path) -> None:
    backend = start(tmp_path, models_dir)
    try:
        client = Client.connect(backend.wait_ready(30))
        slow = client.create_head("fake", "slow")
        job = client.render_sequence(slow.head_id, frames(100), 8, 8)
        until(lambda: client.status().worker == "busy")
        worker = _children(backend.pid)
        os.kill(backend.pid, signal.SIGKILL)
        assert until(lambda: job.done, 5) < 3
        last = job.poll()[-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, TryAgain)
        assert not client.alive
        assert client.state == "lost"
        with pytest.raises(TryAgain):
            client.render_frame(slow.head_id, NEUTRAL, FRONT, 8, 8)
        begin = time.monotonic()
        client.close()
        client.close()
        assert time.monotonic() - begin < 1
        until(lambda: not any(_alive(pid) for pid in worker), 5)  # no orphan is left
        until(lambda: backend.poll().state is State.CRASHED, 2)
        assert backend.poll().log
    finally:
        backend.stop()


def test_a_frozen_backend_is_noticed(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from head360.client import transport

    monkeypatch.setattr(transport, "SLOW_AFTER", 1.5)
    monkeypatch.setattr(transport, "DEAD_AFTER", 3.0)
    backend = start(tmp_path, models_dir)
    try:
        with Client.connect(backend.wait_ready(30)) as client:
            os.kill(backend.pid, signal.SIGSTOP)
            until(lambda: client.state == "unresponsive", 4)
            os.kill(backend.pid, signal.SIGCONT)
            until(lambda: client.state == "connected", 4)
            os.kill(backend.pid, signal.SIGSTOP)
            job = client.submit_status(timeout=60)
            until(lambda: job.done, 6)
            assert client.state == "lost"
    finally:
        os.kill(backend.pid, signal.SIGCONT)
        backend.stop()


def test_the_backend_leaves_with_its_parent(tmp_path: Path, models_dir: Path) -> None:
    """A parent that is killed without warning leaves neither gateway nor worker behind."""
    script = (
        "import sys, time\n"
        "from head360.launcher import LocalBackend\n"
        "b = LocalBackend.start(runtime_dir=sys.argv[1], extra_args=sys.argv[3:],\n"
        "    env={'PYTHONPATH': sys.argv[2]})\n"
        "b.wait_ready(30)\n"
        "print(b.pid, b.connection_file, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c", script, str(tmp_path), ENV["PYTHONPATH"]),
            *("--models", str(models_dir), "--head-factory", FACTORY),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENV},
    )
    assert parent.stdout is not None
    pid, file = parent.stdout.readline().split()
    family = [int(pid), *_children(int(pid))]
    assert len(family) == 2
    parent.kill()
    parent.wait(5)
    until(lambda: not any(_alive(member) for member in family), 8)
    assert not Path(file).exists()


def test_term_and_shutdown_leave_cleanly(tmp_path: Path, models_dir: Path) -> None:
    backend = start(tmp_path, models_dir)
    with Client.connect(backend.wait_ready(30)) as client:
        slow = client.create_head("fake", "slow")
        job = client.render_sequence(slow.head_id, frames(100), 8, 8)
        client.shutdown()
        until(lambda: job.done, 5)
    until(lambda: backend.poll().exit_code == 0, 8)
    assert not backend.connection_file.exists()

    backend = start(tmp_path, models_dir, "--idle-exit", "600")
    backend.wait_ready(30)
    os.kill(backend.pid, signal.SIGTERM)
    until(lambda: backend.poll().exit_code == 0, 8)
    assert list(tmp_path.glob("connection-*")) == []


def test_the_backend_leaves_with_a_parent_named_by_id(tmp_path: Path, models_dir: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    words = ["--runtime-dir", tmp_path, "--models", models_dir, "--head-factory", FACTORY]
    words += ["--device", "cpu", "--parent-pid", str(parent.pid)]
    backend = subprocess.Popen(
        [sys.executable, "-m", "head360", "serve", *map(str, words)], env={**os.environ, **ENV}
    )
    try:
        until(lambda: bool(connection.find(tmp_path)), 20)
        parent.kill()
        parent.wait(5)
        assert backend.wait(8) == 0
    finally:
        backend.kill()
    assert connection.find(tmp_path) == []


def test_files_of_killed_servers_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(10)
    pair = KeyPair.new()
    fields = ("tcp://127.0.0.1:1", pair.public, pair.public, pair.secret)
    tmp_path.chmod(0o700)
    gone = connection.write(tmp_path, connection.Connection(*fields, dead.pid, "gone", "0"))
    here = connection.write(tmp_path, connection.Connection(*fields, os.getpid(), "here", "0"))
    assert connection.find(tmp_path) == [here]
    connection.sweep(tmp_path)
    assert not gone.exists()
    assert here.exists()


def test_idle_backends_leave(tmp_path: Path, models_dir: Path) -> None:
    backend = start(tmp_path, models_dir, "--idle-exit", "0.5")
    until(lambda: backend.poll().exit_code == 0, 15)


def test_a_worker_that_never_starts_is_reported(tmp_path: Path, models_dir: Path) -> None:
    backend = start(tmp_path, models_dir, "--device", "cuda")  # fake heads know the CPU alone
    try:
        with pytest.raises(Exception, match="no cuda device") as caught:
            backend.wait_ready(30)
        assert type(caught.value).__name__ == "NoDevice"
        assert backend.poll().exit_code == 69
    finally:
        backend.stop()


def test_an_interpreter_without_head360_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Python interpreter"):
        LocalBackend.start(tmp_path / "no-python", tmp_path)
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "head360.py").write_text("raise SystemExit('this Python has no head360')")
    run = tmp_path / "run"
    backend = LocalBackend.start(sys.executable, run, env={"PYTHONPATH": str(stub)})
    until(lambda: backend.poll().exit_code is not None)
    assert "no head360" in str(backend.poll().error())


def test_blenders_own_python_settings_do_not_reach_the_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/blender/python")
    monkeypatch.setenv("PYTHONPATH", "/blender/addons")
    cleaned = clean_environment({"EXTRA": "1"})
    assert "PYTHONHOME" not in cleaned
    assert "PYTHONPATH" not in cleaned
    assert cleaned["EXTRA"] == "1"
    assert cleaned["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:0", "tcp://[::]:1", "ipc:///x", "tcp://h:x", ""])
def test_other_addresses_are_refused(bind: str) -> None:
    from head360.server.surroundings import check_bind

    with pytest.raises(BadInput):
        check_bind(bind)


def test_runtime_folders_of_others_are_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    assert connection.prepare_runtime_dir(shared) == shared  # empty: ours to tighten
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700
    shared.chmod(0o755)
    (shared / "thesis.odt").write_text("")
    with pytest.raises(BadInput, match="private"):
        connection.prepare_runtime_dir(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_gateway_client_and_protocol_do_without_torch() -> None:
    code = (
        "import sys, head360.server.gateway, head360.client, head360.launcher\n"
        "heavy = {'torch', 'numba', 'scipy', 'PIL', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
