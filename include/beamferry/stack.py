"""Airflow on this machine: its four components as processes of their own, on loopback only."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# "-s" leaves out the log servers, which would listen on all interfaces.
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "-s"),
    "triggerer": ("triggerer", "-s"),
}
POOL = "rds_ssh"
# Transfers at the same time; each holds up to 16 connections to a facility.
POOL_SLOTS = 4
POOL_ABOUT = "Transfers at the same time on RDS-SSH; counts those that wait in the triggerer"
ADMIN = "admin"
_STOP_SECONDS = 30.0
_KILL_SECONDS = 5.0
# The database and the logs are for this account alone, whoever made the folder.
_PRIVATE = 0o077
# The kernel ends a component when the process that started it is gone, however that ended.
_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")


@dataclass
class Stack:
    """One Airflow: SQLite unless the environment names a database, LocalExecutor.

    Args:
        home: AIRFLOW_HOME; made with mode 0700, holds the database, the logs and the secrets.
        dags: the DAG folder.
        port: of the web interface and API; the next free one from 8080 when 0.
        connections: Airflow connections by id, as JSON values.
        env: further environment of all components.
    """

    home: Path
    dags: Path
    port: int = 0
    connections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    _token: str = field(default="", init=False, repr=False)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False, repr=False)
    _lock: int | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Choose the port and make the folder."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.port:
            self.port = _free_port()

    @property
    def url(self) -> str:
        """Address of the web interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """The administrator's password, made once and kept in the home folder with mode 0600."""
        return str(
            json.loads(self._once("passwords.json", lambda: json.dumps({ADMIN: secrets.token_urlsafe(9)})))[
                ADMIN
            ]
        )

    @property
    def login(self) -> str:
        """Name and password of the administrator, for the terminal of the person who started this."""
        return f"{ADMIN} / {self.password}"

    def _once(self, name: str, make: Callable[[], str]) -> str:
        path = self.home / name
        if not path.exists():
            # Under its own name only when it is whole: a half-written secret would never be made anew.
            with tempfile.NamedTemporaryFile("w", dir=self.home, delete=False) as file:  # of mode 0600
                file.write(make())
            Path(file.name).replace(path)
        return path.read_text()

    def environment(self) -> dict[str, str]:
        """Return the environment of all components."""
        secret = self._once("jwt_secret", lambda: secrets.token_hex(32))
        fernet = self._once("fernet_key", _fernet_key)
        _ = self.password
        own = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.home / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__FERNET_KEY": fernet,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secret,
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            # Airflow gives its logs these modes whatever the process' own mask is.
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
            # No usage data leaves this machine.
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        given = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in self.connections.items()
        }
        if "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in os.environ:
            own["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{self.home}/airflow.db"
        return {**os.environ, **own, **given, **self.env}

    # Start and stop.

    def start(self) -> None:
        """End what an earlier start left behind, bring the database up to date and start all components.

        Raises:
            PermanentError: another process runs Airflow in this folder, or Airflow's own set-up failed.
        """
        if not self._take_folder():
            raise PermanentError(
                "airflow-runs",
                f"Airflow already runs in {self.home}",
                "use that one, or stop it with Ctrl-C where it was started",
            )
        self._end_components()
        self._airflow("db", "migrate")
        for name in COMPONENTS:
            self.start_component(name)

    def _take_folder(self) -> bool:
        """Hold the folder until ``stop`` unless another process does; the kernel gives it back if we die."""
        if self._lock is None:
            lock = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def start_component(self, name: str) -> None:
        """Start one component in a session of its own, unless it runs."""
        if self.pid(name) is not None:
            return
        self._reap()
        log = os.fdopen(
            os.open(self.home / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab"
        )
        with log:
            process = subprocess.Popen(  # noqa: S603 - our own components
                (*_WITH_PARENT, sys.executable, "-m", "airflow", *COMPONENTS[name]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
                cwd=self.home,
                umask=_PRIVATE,
            )
        self._children[name] = process
        self._pid_file(name).write_text(f"{process.pid} {_born(process.pid)}")

    def pid(self, name: str) -> int | None:
        """Return the process number of a component, None if it does not run."""
        pid, born = self._noted(name)
        return pid if born and _born(pid) == born else None

    def _pid_file(self, name: str) -> Path:
        return self.home / f"{name}.pid"

    def _noted(self, name: str) -> tuple[int, str]:
        try:
            pid, born = self._pid_file(name).read_text().split()
        except (FileNotFoundError, ValueError):
            return 0, ""
        return int(pid), born

    def _members(self, names: tuple[str, ...]) -> list[_Process]:
        """Return the processes of these components: a child of one can outlive it."""
        noted = [self._noted(name) for name in names]
        # A number whose process began at another time was given out again: that session is not ours.
        sessions = {pid for pid, born in noted if born and _born(pid) in {"", born}}
        return [process for process in _processes() if process.session in sessions]

    def kill_component(self, name: str, sign: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a component and all its children."""
        for process in self._members((name,)):
            _signal(process.pid, sign)

    def stop(self) -> None:
        """Stop all components: ask first, insist after half a minute; nothing is left over.

        What another process runs in this folder is not ours to stop, and goes on.
        """
        if not self._take_folder():
            return
        self._end_components()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _end_components(self) -> None:
        names = tuple(COMPONENTS)
        for sign, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            for process in self._members(names):
                # A task has a group of its own; asking it to end is for the component that watches it.
                if sign == signal.SIGKILL or process.group == process.session:
                    _signal(process.pid, sign)
            end = time.monotonic() + seconds
            while self._members(names) and time.monotonic() < end:
                self._reap()
                time.sleep(0.1)
        self._reap()
        for name in names:
            self._pid_file(name).unlink(missing_ok=True)

    def _reap(self) -> None:
        """Take leave of the components that ended."""
        self._children = {name: child for name, child in self._children.items() if child.poll() is None}

    def wait_healthy(self, seconds: float) -> None:
        """Wait until all four components answer, then make the pool.

        Raises:
            PermanentError: they did not come up in time, or one ended.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = [name for name in COMPONENTS if self.pid(name) is None]
            if ended:
                raise PermanentError(
                    "airflow-ended", f"Airflow's {ended[0]} ended", f"see {self.home / ended[0]}.log"
                )
            try:
                answer = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            except (httpx.HTTPError, ValueError):
                time.sleep(0.5)
                continue
            if all(part["status"] in {"healthy", None} for part in answer.values()) and _all_up(answer):
                self._make_pool()
                return
            time.sleep(0.5)
        raise PermanentError(
            "airflow-slow", f"Airflow did not come up within {seconds:.0f} s", f"see the logs in {self.home}"
        )

    def _make_pool(self) -> None:
        names = {pool["name"] for pool in self.api("GET", "/pools?limit=100")["pools"]}
        if POOL not in names:
            # Deferred tasks leave a pool unless it says otherwise, and ours are nearly always deferred.
            value = {"name": POOL, "slots": POOL_SLOTS, "description": POOL_ABOUT, "include_deferred": True}
            self.api("POST", "/pools", value)

    def _airflow(self, *words: str) -> None:
        done = subprocess.run(  # noqa: S603 - Airflow's own command
            (sys.executable, "-m", "airflow", *words),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            umask=_PRIVATE,
        )
        if done.returncode != 0:
            tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise PermanentError(
                "airflow-setup",
                f"'airflow {' '.join(words)}' failed ({' '.join(tail)})",
                f"check the database that AIRFLOW__DATABASE__SQL_ALCHEMY_CONN names, or move {self.home} away",
            )

    # REST.

    def api(self, method: str, path: str, value: Any = None) -> Any:
        """Call Airflow's public API and return its JSON.

        Raises:
            httpx.HTTPStatusError: it answered with an error.
        """
        if not self._token:
            login = {"username": ADMIN, "password": self.password}
            answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=30)
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
        answer = httpx.request(
            method,
            f"{self.url}/api/v2{path}",
            json=value,
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=30,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


def _all_up(health: Mapping[str, Mapping[str, Any]]) -> bool:
    return all(
        health.get(name, {}).get("status") == "healthy"
        for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")
    )


def _fernet_key() -> str:
    from cryptography.fernet import Fernet  # noqa: PLC0415 - only at the very first start

    return Fernet.generate_key().decode()


def _free_port() -> int:
    for port in (*range(8080, 8100), 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise PermanentError("no-port", "No TCP port is free on 127.0.0.1", "stop what listens there")


class _Process(NamedTuple):
    pid: int
    group: int
    session: int


def _processes() -> Iterator[_Process]:
    """Yield everything that runs; what has ended but lingers does not."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        fields = _stat(int(folder.name))
        if fields and fields[0] != "Z":
            yield _Process(int(folder.name), int(fields[2]), int(fields[3]))


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on (proc_pid_stat(5)), none if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _born(pid: int) -> str:
    """Return the start time of a process, '' for one that is gone: numbers are given out again."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def _signal(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return
