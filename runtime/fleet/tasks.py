"""Ends tasks."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN = 0.2


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once is not enough: before Python 3.12, ``asyncio.wait_for`` can lose a cancellation that comes together
    with its result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN)
    if not task.cancelled():
        task.exception()  # so that nobody misses it
