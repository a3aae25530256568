"""Tests of the UCI sets have a cache of their own, and no way to the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from otbench.data.remote import RemoteFile
from otbench.datasets.uci import files


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own for each test, and no way to the network."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("pooch.os_cache", lambda project: folder / project)
    monkeypatch.setattr("otbench.data.remote.RETRIES", 0)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    local = RemoteFile("http://127.0.0.1:9/data.tar.gz", None, ("maf/data.tar.gz",), md5="0" * 32, size=10**6)
    monkeypatch.setattr(files, "ARCHIVE", local)
    return folder / "otbench"
