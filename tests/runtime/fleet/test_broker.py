"""Connections that are refused, and brokers that come later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from multires_edge.base.errors import InputError
from multires_edge.runtime.fleet.broker import connect, options_of
from tests.runtime.fleet.cluster import Server, running
from tests.runtime.fleet.test_log import run


def test_a_refused_worker_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, more="authorization { user: worker, password: right }")

    async def body() -> None:
        said: list[str] = []
        for password in ("wrong", None):
            options = options_of(server.address)
            if password is not None:
                monkeypatch.setenv("PASSWORD", password)
                options = options_of(f"{server.address}#user=worker&password=env:PASSWORD")
            with pytest.raises(InputError, match="Authorization Violation"):
                await connect(options, "test", said.append)
        monkeypatch.setenv("PASSWORD", "right")
        client = await connect(
            options_of(f"{server.address}#user=worker&password=env:PASSWORD"), "test", said.append
        )
        assert client.is_connected and said == []
        await client.close()

    with running(server):
        server.start()
        run(body)


def test_a_broker_that_comes_later(tmp_path: Path) -> None:
    server = Server(tmp_path)

    async def body() -> None:
        said: list[str] = []
        connecting = asyncio.create_task(connect(options_of(server.address), "test", said.append))
        while not said:
            await asyncio.sleep(0.02)
        assert not connecting.done()
        server.start()
        client = await connecting
        server.kill()
        server.start()
        while not client.is_connected or len(said) < 3:
            await asyncio.sleep(0.02)
        first, *others = said
        assert "cannot be reached" in first and "trying again" in first
        assert [text.partition(":")[0] for text in others] == ["warning", "note"]
        await client.close()

    with running(server):
        run(body)
