"""Fixtures that start a real backend process with the fake head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_head import write_model
from server_tools import start

from head360.client import Client
from head360.launcher import LocalBackend


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[LocalBackend]:
    """One backend for the tests of a module; none of them stops it."""
    process = start(tmp_path_factory.mktemp("run"), models_dir)
    process.wait_ready(30.0)
    yield process
    process.stop()


@pytest.fixture
def client(backend: LocalBackend) -> Iterator[Client]:
    with Client.connect(backend.connection_file) as connected:
        yield connected
