"""The demonstration while a part of Airflow is started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from beamferry import demo
from beamferry.keeping import Keeper
from beamferry.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = httpx.Request("GET", "http://127.0.0.1/")
LOCKED = httpx.HTTPStatusError("database is locked", request=REQUEST, response=httpx.Response(500))


class Faulty(Stack):
    """A stack whose page answers with errors before it answers."""

    errors: list[Exception]

    def pid(self, name: str) -> int | None:
        return len(name)

    def api(self, *_: object) -> dict[str, str]:
        if self.errors:
            raise self.errors.pop()
        return {"state": "success"}


@pytest.mark.parametrize("error", [LOCKED, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_a_page_that_fails_for_a_while_ends_no_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(demo.time, "sleep", lambda _seconds: None)
    stack = Faulty(tmp_path, tmp_path, port=1)
    stack.errors = [error, error]
    states = demo._states(stack, Keeper(stack, print), "dag", "run")
    assert [next(states) for _ in range(3)] == ["unknown", "unknown", "success"]
