"""What is in Airflow's place: its store of asset state, its XComs, and its connection to RDS-SSH."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from shortcuts import Here


class Store:
    """Airflow's store of asset state."""

    kept: ClassVar[dict[str, dict[str, str]]] = {}

    def __init__(self, *, name: str) -> None:
        self._values = self.kept.setdefault(name, {})

    def get(self, key: str) -> Any:
        return json.loads(self._values[key]) if key in self._values else None

    def set(self, key: str, value: Any) -> None:
        self._values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._values.pop(key, None)


class Instance:
    """A task instance: it has the XComs, and nobody else asks for anything."""

    dag_id, map_index, try_number, max_tries = "truth", -1, 1, 1

    def __init__(self, run_id: str) -> None:
        self.run_id, self.task_id = run_id, ""
        self._values: dict[tuple[str, str], Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self._values[self.task_id, key] = value

    def xcom_pull(self, task_ids: str | None = None, key: str = "return_value", **_: Any) -> Any:
        return self._values.get((task_ids or self.task_id, key))


def quiet() -> logging.Logger:
    log = logging.getLogger("truth")
    log.setLevel(logging.CRITICAL)
    return log


class Hook:
    remote_host = "rds"

    def __init__(self, client: Here) -> None:
        self._client = client

    def get_conn(self) -> Here:
        return self._client
