from __future__ import annotations

from tests.support.loop import called, loop

__all__ = ["called", "loop"]
