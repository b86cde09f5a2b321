"""The compose file as the tests use it: a project of their own, its REST API, and what is looked at in its hosts."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from beamtime_runs import asset_state
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
# What the tests wait for at the most; nothing is asserted about how long anything takes.
PATIENCE = 420.0
SHARED = "/mnt/eps01-rds/Fonseca-Lightform/shared"
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer", "worker")
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy")


def docker(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run docker; its standard error is part of what a failure says."""
    done = subprocess.run(
        ("docker", *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
    if done.returncode:
        raise AssertionError(
            f"docker {shlex.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done


def _are_lookalikes() -> bool:
    """Whether the images at hand are made of Debian's own packages, where no image registry is reached."""
    found = subprocess.run(
        ("docker", "image", "inspect", "--format", "{{json .Config.Entrypoint}}", "postgres:16"),
        capture_output=True,
        text=True,
        check=False,
    )
    return "pg-entrypoint" in found.stdout


def pip_settings() -> str:
    """Return pip's settings of this machine as far as a container can use them."""
    said = subprocess.run(
        (sys.executable, "-m", "pip", "config", "list"), capture_output=True, text=True, check=True
    )
    lines = ["[global]"]
    for line in said.stdout.splitlines():
        name, _, value = line.partition("=")
        setting, places = name.rpartition(".")[2], value.strip("'").split()
        reached = [place for place in places if not place.startswith("file:")]
        if setting in _PIP_SETTINGS and reached:
            lines.append(f"{setting} = {' '.join(reached)}")
    return "\n".join(lines) + "\n"


@dataclass
class Project:
    """One start of the compose file, under a name of its own.

    Args:
        name: of the project.
        folder: of the tests, for what belongs to it alone.
        port: of the web interface.
        variables: further ones of the compose file.
    """

    name: str
    folder: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)
    _token: str = field(default="", init=False, repr=False)

    def environment(self) -> dict[str, str]:
        pip = self.folder / "pip.conf"
        pip.touch(mode=0o600)
        pip.write_text(pip_settings())
        own = {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": ":".join(map(str, self._files())),
            "COMPOSE_ANSI": "never",
            "COMPOSE_DISABLE_ENV_FILE": "1",
            "BEAMFERRY_IMAGE": "beamferry-test",
            "BEAMFERRY_PORT": str(self.port),
            "BEAMFERRY_SECRETS": str(self.folder / "secrets"),
            "PIP_CONFIG": str(pip),
        }
        if _are_lookalikes():
            own |= {"BASE_IMAGE": "python:3.12-slim-bookworm", "BUILD_NETWORK": "host"}
        return {**os.environ, **own, **self.variables}

    def _files(self) -> Iterable[Path]:
        yield REPOSITORY / "docker-compose.yaml"
        yield HERE / "watchful.yaml"
        if _are_lookalikes():
            yield HERE / "lookalike.yaml"

    def compose(self, *words: str) -> str:
        """Run docker compose with the lab and return what it printed."""
        return docker("compose", "--profile", "lab", *words, env=self.environment(), cwd=REPOSITORY).stdout

    def plain(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run docker compose without the lab, whatever comes of it."""
        return subprocess.run(
            ("docker", "compose", *words),
            env=self.environment(),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def deploy(self, script: str, *words: str, code: int = 0) -> str:
        """Run a script of deploy/ as a person does on the server, and return what it said."""
        done = subprocess.run(
            (str(REPOSITORY / "deploy" / script), *words),
            env=self.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def inside(self, service: str, *words: str) -> str:
        """Run a command in a service's container and return what it printed."""
        return self.compose("exec", "--no-TTY", service, *words)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def crash(self, service: str) -> None:
        """End all processes of a service's container at once, as a crash does: the engine has to start it again.

        ``docker kill`` would count as somebody's wish that it stays away.
        """
        (container,) = self.containers(service)
        first = docker("inspect", "--format", "{{.State.Pid}}", container).stdout.strip()
        os.kill(int(first), signal.SIGKILL)

    def restarts(self, service: str) -> int:
        (container,) = self.containers(service)
        return int(docker("inspect", "--format", "{{.RestartCount}}", container).stdout)

    def memory(self) -> dict[str, float]:
        """Memory of each container in MiB."""
        form = "{{.Name}} {{.MemUsage}}"
        ours = self.compose("ps", "--quiet").split()
        found = {}
        for line in docker("stats", "--no-stream", "--format", form, *ours).stdout.splitlines():
            name, used, *_ = line.split()
            number, unit = re.fullmatch(r"([\d.]+)([KMG]iB)", used).groups()  # type: ignore[union-attr]
            found[name] = float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]
        return found

    # REST.

    def api(self, method: str, path: str, value: Any = None) -> Any:
        return self.ask(method, f"/api/v2{path}", value)

    def ask(self, method: str, path: str, value: Any = None) -> Any:
        """Return what Airflow's web server answers to the administrator, at any of its addresses."""
        url = f"http://127.0.0.1:{self.port}"
        if not self._token:
            login = {"username": "admin", "password": "lab"}
            self._token = (
                httpx.post(f"{url}/auth/token", json=login, timeout=30)
                .raise_for_status()
                .json()["access_token"]
            )
        answer = httpx.request(
            method,
            f"{url}{path}",
            json=value,
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=30,
        )
        return answer.raise_for_status().json()

    def wait(self, look: Callable[[], Any], what: Callable[[], str] | str) -> Any:
        """Look until something is there; while what was killed comes back, Airflow need not answer."""

        def answered() -> Any:
            try:
                return look()
            except httpx.HTTPError:
                return None

        return wait_for(answered, what, PATIENCE)

    def begin(self, dag: str, **choices: Any) -> str:
        path = f"/dags/{dag}/dagRuns"
        answer = self.wait(
            lambda: self.api("POST", path, {"logical_date": None, "conf": choices}), f"{dag} is started"
        )
        return str(answer["dag_run_id"])

    def first_run(self, dag: str) -> str:
        """The run that a new beamtime gets by itself."""

        def look() -> str | None:
            if dag not in [found["dag_id"] for found in self.api("GET", "/dags?limit=100")["dags"]]:
                return None
            runs = self.api("GET", f"/dags/{dag}/dagRuns")["dag_runs"]
            return str(runs[0]["dag_run_id"]) if runs else None

        return str(self.wait(look, f"{dag} begins by itself"))

    def verifications(self, dag: str) -> list[dict[str, Any]]:
        """What Airflow keeps of a beamtime's last comparison."""
        # beamtime_diamond_mg25682-2 stands for rds/diamond/mg25682-2.
        state = asset_state(self.api, dag.removeprefix("beamtime_").replace("_", "/", 1))
        return [state["verification"]] if "verification" in state else []

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")[
            "task_instances"
        ]
        return found

    def end_of(self, dag: str, run: str) -> str:
        def look() -> str | None:
            state = str(self.api("GET", f"/dags/{dag}/dagRuns/{run}")["state"])
            return state if state in {"success", "failed"} else None

        def states() -> str:
            return str([(task["task_id"], task["state"]) for task in self.tasks(dag, run)])

        return str(self.wait(look, lambda: f"{dag} ended; {states()}"))

    # What is looked at in the lab's hosts.

    def certificate(self, beamtime: str) -> dict[str, Any]:
        text = self.inside("rds", "sh", "-c", f"cat {SHARED}/*/*/*/{beamtime}.certificate/certificate.json")
        found: dict[str, Any] = json.loads(text)
        return found

    def sums(self, service: str, place: str, *without: str) -> set[str]:
        """SHA-256 and name of every file below a place, names as sha256sum writes them."""
        leave = " ".join(f"! -path {shlex.quote(path)}" for path in without)
        command = f"cd {place} && find . -type f {leave} -print0 | sort -z | xargs -0 sha256sum"
        container = self.containers(service)[0]
        done = subprocess.run(
            ("docker", "exec", container, "bash", "-c", f"set -o pipefail; {command}"),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.decode("utf-8", "surrogateescape").splitlines())

    def forget(self) -> None:
        """Remove what is at RDS, so that it is all to be fetched again."""
        self.inside("rds", "bash", "-c", f"cd {SHARED} && chmod -R u+w . && rm -rf -- diamond desy")


# The script that does the work.
_JOB = re.compile(r"(?:bash \S+/\w+\.sh --work \.beamferry/jobs/|\S+ -I -B \S+/agent\.pyz step \w+ )([^/ ]+)")
_TOP = "pid,ppid,pgid,args"


def jobs(processes: str) -> dict[str, set[str]]:
    """Return what works on a beamtime, and for whom rsync and lftp run, from ``docker top``'s lines.

    A job is a process group. rsync and lftp count by the job that they descend from (lftp leaves its group); those
    without a job, whose parent was lost, count by themselves.

    Args:
        processes: with the columns of ``_TOP``.
    """
    lines = [line.split(maxsplit=3) for line in processes.splitlines()[1:]]
    parents = {pid: parent for pid, parent, _, _ in lines}
    working = {pid: (match[1], group) for pid, _, group, words in lines if (match := _JOB.match(words))}
    found: dict[str, set[str]] = {}
    for beamtime, group in working.values():
        found.setdefault(beamtime, set()).add(group)
    for pid, _, _, words in lines:
        tool = words.split()[0]
        # What is asked for its version is no transfer.
        if tool in {"rsync", "lftp"} and "--version" not in words:
            above = pid
            while above in parents and above not in working:
                above = parents[above]
            job = working[above][1] if above in working else f"none, process {pid}"
            found.setdefault(tool, set()).add(job)
    return found


class Watch(threading.Thread):
    """Counts the jobs that run at the same time on RDS-SSH, for each beamtime, and for rsync and lftp."""

    def __init__(self, project: Project) -> None:
        super().__init__(daemon=True)
        (self.container,) = project.containers("rds")
        self.most: dict[str, int] = {}
        self.seen: dict[str, str] = {}
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.4):
            top = subprocess.run(
                ("docker", "top", self.container, "-eo", _TOP),
                capture_output=True,
                text=True,
                check=False,
            )
            for name, groups in jobs(top.stdout).items():
                if len(groups) > self.most.get(name, 0):
                    self.most[name], self.seen[name] = len(groups), top.stdout
