"""The group's server in real containers: built, started, killed, taken down; the lab's hosts are containers too."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import httpx
import pytest
from containers import AIRFLOW, REPOSITORY, SHARED, Project, Watch, docker

from beamferry.lab.settings import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(2400)

DIAMOND, DESY = "beamtime_diamond_mg25682-2", "beamtime_desy_11010750"
BEAMTIMES = {DIAMOND: "mg25682-2", DESY: "11010750"}
# With a limit of one MiB/s there is time to kill something, also where one of the two begins 15 s after the other.
SIZE = 40_000_000
SECRETS = ("database_password", "queue_password", "jwt_secret", "api_secret", "fernet_key", "rds_key")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A name, a port and an empty folder of secrets; nothing of it is left at the end."""
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "secrets").mkdir()
    made = Project(f"beamferry-test-{os.getpid()}", folder, free_port("127.0.0.1"), {"LAB_SIZE": str(SIZE)})
    begin = time.monotonic()
    made.compose("build")
    _say(f"built in {time.monotonic() - begin:.0f} s")
    try:
        yield made
    finally:
        begin = time.monotonic()
        made.compose("down", "--volumes", "--remove-orphans")
        _say(f"down in {time.monotonic() - begin:.0f} s")
        left = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={made.name}")
        volumes = docker("volume", "ls", "--quiet", "--filter", f"name={made.name}_")
        assert (left.stdout, volumes.stdout) == ("", "")


@pytest.fixture(scope="module")
def server(project: Project) -> Project:
    """All of it, healthy."""
    begin = time.monotonic()
    project.compose("up", "--wait", "--wait-timeout", "400")
    _say(f"healthy in {time.monotonic() - begin:.0f} s")
    return project


def _say(what: str) -> None:
    print(f"deploy: {what}", flush=True)


def test_without_secrets_it_says_what_to_do(project: Project) -> None:
    done = project.plain("up")
    assert done.returncode != 0
    assert "deploy/secrets has no database_password, queue_password" in done.stdout
    assert "Call deploy/prepare" in done.stdout
    assert project.plain("ps", "--quiet", "--status", "running").stdout == ""
    project.plain("down", "--volumes")


def test_a_lab_that_was_does_not_start_as_a_server(server: Project) -> None:
    before = server.inside("worker", "sha256sum", "/run/beamferry/fernet_key")
    done = server.plain("run", "--rm", "--no-deps", "secrets")
    assert done.returncode == 1
    assert "deploy/secrets has no database_password" in done.stdout
    assert server.inside("worker", "sha256sum", "/run/beamferry/fernet_key") == before, "what runs goes on"


def test_prepared_secrets_are_private_and_wait_for_values(project: Project) -> None:
    folder = project.folder / "prepared"
    prepare = (str(REPOSITORY / "deploy" / "prepare"),)
    environment = {**os.environ, "BEAMFERRY_SECRETS": str(folder)}
    subprocess.run(prepare, env=environment, check=True, capture_output=True)
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o600"}
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    subprocess.run(prepare, env=environment, check=True, capture_output=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == before, (
        "a second call changes nothing"
    )
    mine = Project(f"{project.name}-own", folder.parent, project.port, {"BEAMFERRY_SECRETS": str(folder)})
    try:
        done = mine.plain("run", "--rm", "secrets")
        assert done.returncode == 1
        assert "connections.yaml: rds_ssh still says FILL-IN" in done.stdout
        connections = folder / "connections.yaml"
        connections.write_text(connections.read_text().replace("FILL-IN", "filled-in"))
        done = mine.plain("run", "--rm", "secrets")
        assert done.returncode == 0, done.stdout
        seen = mine.plain(
            "run", "--rm", "--no-deps", "worker", "stat", "-Lc", "%a %U %n", "/run/beamferry/rds_key"
        )
        assert "400 airflow /run/beamferry/rds_key" in seen.stdout
    finally:
        mine.plain("down", "--volumes")


def test_both_beamtimes_come_home_through_celery(server: Project) -> None:
    begin = time.monotonic()
    workers = server.containers("worker")
    for dag, beamtime in BEAMTIMES.items():
        run = server.first_run(dag)
        assert server.end_of(dag, run) == "success", server.tasks(dag, run)
        certificate = server.certificate(beamtime)
        assert (certificate["outcome"], certificate["run"]) == ("verified", run)
        hosts = {task["hostname"] for task in server.tasks(dag, run)}
        assert all(any(worker.startswith(host) for worker in workers) for host in hosts), (hosts, workers)
    assert server.api("GET", "/plugins/importErrors")["total_entries"] == 0
    board = server.ask("GET", "/beamferry/api/beamtimes")["beamtimes"]
    assert {row["dag_id"]: row["state"] for row in board} == dict.fromkeys(BEAMTIMES, "safe")
    _say(f"both certified {time.monotonic() - begin:.0f} s after it was healthy")
    used = server.memory()
    _say(f"memory {sum(used.values()):.0f} MiB: {', '.join(f'{n} {m:.0f}' for n, m in sorted(used.items()))}")
    _same_content(server)


def _same_content(server: Project) -> None:
    """What is at RDS is what the facilities have, by content: nobody's certificate is asked."""
    there = server.sums("diamond", "/dls/i12/data/2021/mg25682-2", "./tmp/*")
    assert len(there) > 300
    assert server.sums("rds", f"{SHARED}/diamond/i12/*/mg25682-2") == there
    left = ("./raw/sealed_00001.cbf", "./shared/asapo-token*.txt")
    there = server.sums("desy", "/beamtimes/11010750", *left)
    assert len(there) > 50
    assert server.sums("rds", f"{SHARED}/desy/p07/*/11010750") == there


def test_the_code_is_the_repository_s_and_cannot_be_written(server: Project) -> None:
    for service in AIRFLOW:
        for file in sorted((REPOSITORY / "dags").glob("*.py")):
            inside = server.inside(service, "sha256sum", f"/opt/airflow/dags/{file.name}").split()[0]
            assert inside == sha256(file.read_bytes()).hexdigest(), (service, file.name)
    for place in ("/opt/airflow/dags", "/opt/beamferry/registry", "/run/beamferry"):
        said = server.inside("worker", "sh", "-c", f"touch {place}/x 2>&1 || true")
        assert "Read-only file system" in said


def test_nobody_is_root_and_no_secret_is_in_sight(server: Project) -> None:
    folder = "/run/beamferry"
    secrets = {name: server.inside("worker", "cat", f"{folder}/{name}").strip() for name in SECRETS}
    assert all(len(secret) > 16 for secret in secrets.values())
    for service in (*AIRFLOW, "rds", "diamond", "desy", "mail"):
        container = server.containers(service)[0]
        top = docker("top", container, "-eo", "pid,uid,args").stdout.splitlines()[1:]
        # The engine's own first process belongs to the account of the container too.
        assert {line.split()[1] for line in top} <= {"50000", "1001"}, (service, top)
        seen = docker("inspect", container).stdout + "\n".join(top)
        if service in AIRFLOW:
            seen += server.inside(service, "sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null || true")
        shown = [name for name, secret in secrets.items() if secret in seen]
        assert shown == [], service
    logs = server.compose("logs", "--no-color")
    assert [name for name, secret in secrets.items() if secret in logs] == []
    modes = server.inside("worker", "stat", "-Lc", "%a %U", *(f"{folder}/{name}" for name in SECRETS))
    assert set(modes.splitlines()) == {"400 airflow"}
    for place in (folder, "/run/airflow", "/opt/airflow/logs"):
        find = ("find", f"{place}/", "-mindepth", "1", "!", "-type", "l")
        assert server.inside("api-server", *find) != ""
        assert server.inside("api-server", *find, "-perm", "/077") == ""


def test_the_pool_counts_what_waits_in_the_triggerer(server: Project) -> None:
    pool = server.api("GET", "/pools/rds_ssh")
    assert (pool["slots"], pool["include_deferred"]) == (4, True)


def test_the_alerts_leave_a_sign_that_the_watchdog_finds(server: Project) -> None:
    sign = "cat /opt/airflow/logs/beamferry/alerts.json || true"
    # Not where it was left: any container has to see it.
    server.wait(lambda: server.inside("api-server", "sh", "-c", sign), "the alerts left a sign of life")
    said = server.inside("worker", "beamferry", "watchdog", "--airflow", "http://api-server:8080")
    assert said == "The alerts are alive\n"


def test_no_part_of_airflow_is_where_the_data_goes(server: Project) -> None:
    network = json.loads(docker("network", "inspect", f"{server.name}_facilities").stdout)[0]
    names = {container["Name"].split("-")[-2] for container in network["Containers"].values()}
    assert names == {"rds", "diamond", "desy"}


@pytest.fixture(scope="module")
def backup(server: Project) -> Path:
    """The server with both beamtimes home, in one file, made while it runs."""
    for dag in BEAMTIMES:
        assert server.end_of(dag, server.first_run(dag)) == "success"
    archive = server.folder / "backup.tar.gz"
    server.deploy("backup", str(archive))
    return archive


def test_a_backup_is_one_private_file_with_all_that_matters(server: Project, backup: Path) -> None:
    assert oct(backup.stat().st_mode & 0o777) == "0o600"
    with tarfile.open(backup) as archive:
        held = {member.name for member in archive}
    files = {"manifest.json", "database.sql", "registry.yaml"}
    assert held == files | {f"secrets/{name}" for name in (*SECRETS, "passwords.json", "connections.yaml")}
    before = backup.read_bytes()
    assert "is there already" in server.deploy("backup", str(backup), code=1)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.glob("backup.tar.gz*")] == [backup.name]


@pytest.mark.long
def test_a_backup_comes_back_on_a_machine_that_has_nothing(server: Project, backup: Path) -> None:
    places = {name: server.folder / "restored" / name for name in ("secrets", "registry")}
    for place in places.values():
        place.mkdir(parents=True)
    other = Project(
        f"{server.name}-restored",
        server.folder,
        free_port("127.0.0.1"),
        {f"BEAMFERRY_{name.upper()}": str(place) for name, place in places.items()},
    )
    damaged = server.folder / "damaged.tar.gz"
    damaged.write_bytes(backup.read_bytes()[:-100])
    try:
        assert "This is no whole backup" in other.deploy("restore", str(damaged), code=1)
        assert [list(place.iterdir()) for place in places.values()] == [[], []]
        begin = time.monotonic()
        other.deploy("restore", str(backup))
        _say(f"restored and healthy in {time.monotonic() - begin:.0f} s")
        assert {oct(file.stat().st_mode & 0o077) for file in places["secrets"].iterdir()} == {"0o0"}
        registry = server.inside("worker", "cat", "/run/beamferry/beamtimes.yaml")
        assert (places["registry"] / "beamtimes.yaml").read_text() == registry
        for dag in BEAMTIMES:
            first = server.first_run(dag)
            assert other.api("GET", f"/dags/{dag}/dagRuns/{first}")["state"] == "success"
            assert other.verifications(dag) == server.verifications(dag) != []
        assert "would overwrite Airflow's database" in other.deploy("restore", str(backup), code=1)
    finally:
        other.plain("--profile", "restore", "down", "--volumes")


@pytest.mark.long
def test_a_group_s_own_server_starts_with_what_prepare_made(project: Project) -> None:
    folder = project.folder / "own"
    own = Project(
        f"{project.name}-own", project.folder, free_port("127.0.0.1"), {"BEAMFERRY_SECRETS": str(folder)}
    )
    subprocess.run((str(REPOSITORY / "deploy" / "prepare"),), env=own.environment(), check=True)
    connections = folder / "connections.yaml"
    text = connections.read_text().replace("FILL-IN", "filled-in")
    try:
        connections.write_text(text.replace("rds_ssh:", "elsewhere:"))
        done = own.plain("up", "--wait")
        assert done.returncode != 0
        assert 'service "init" didn\'t complete' in done.stdout
        assert "the registry names the connection rds_ssh, and" in own.plain("logs", "init").stdout
        connections.write_text(text.replace("smtp_default:", "elsewhere:"))
        done = own.plain("run", "--rm", "init")
        assert done.returncode == 0, done.stdout
        assert "Nobody is told of deadlines: the registry names the connection smtp_default" in done.stdout
        connections.write_text(text)
        begin = time.monotonic()
        done = own.plain("up", "--wait")
        assert done.returncode == 0, done.stdout
        _say(f"a server without a lab is healthy in {time.monotonic() - begin:.0f} s")
        password = json.loads((folder / "passwords.json").read_text())["admin"]
        answers = [
            httpx.post(
                f"http://127.0.0.1:{own.port}/auth/token",
                json={"username": "admin", "password": word},
                timeout=30,
            ).status_code
            for word in (password, "lab")
        ]
        assert answers == [201, 401]
        running = own.plain("ps", "--services").stdout.split()
        assert sorted(running) == sorted([*AIRFLOW, "postgres", "redis"])
    finally:
        own.plain("down", "--volumes")


def test_a_worker_killed_during_a_transfer(server: Project) -> None:
    _killed(server, "worker")


@pytest.mark.long
@pytest.mark.parametrize("service", ["scheduler", "triggerer", "postgres"])
def test_each_other_container_killed_during_a_transfer(server: Project, service: str) -> None:
    _killed(server, service)


def _killed(server: Project, service: str) -> None:
    """Kill a container while both transfers move: both are certified in the end, and never is there a second job."""
    for dag in BEAMTIMES:
        assert server.end_of(dag, server.first_run(dag)) == "success"
    watch = Watch(server)
    watch.start()
    try:
        begin = time.monotonic()
        server.forget()
        runs = {dag: server.begin(dag, bandwidth_limit=1, streams=3) for dag in BEAMTIMES}
        _both_move(server)
        restarts = server.restarts(service)
        server.crash(service)
        server.wait(lambda: server.restarts(service) > restarts, f"{service} is started again")
        for dag, run in runs.items():
            assert server.end_of(dag, run) == "success", (service, server.tasks(dag, run))
            certificate = server.certificate(BEAMTIMES[dag])
            assert (certificate["outcome"], certificate["run"]) == ("verified", run)
        _same_content(server)
        _say(f"{service} killed: both certified, {time.monotonic() - begin:.0f} s for all of it")
    finally:
        watch.done.set()
        watch.join()
        _say(f"jobs at the same time: {watch.most}")
    assert {name: seen for name, seen in watch.seen.items() if watch.most[name] > 1} == {}
    assert set(watch.most) == {"diamond_mg25682-2", "desy_11010750", "rsync", "lftp"}


def _both_move(server: Project) -> None:
    """Wait until bytes of both are on their way."""
    (rds,) = server.containers("rds")

    def moving() -> bool:
        top = docker("top", rds, "-eo", "pid,args").stdout
        return " step transfer " in top and " step lftp_transfer " in top

    server.wait(moving, "both transfers are under way")


@pytest.mark.long
def test_three_workers_share_the_work_and_desy_s_comes_by_sftp(server: Project) -> None:
    begin = time.monotonic()
    server.variables["LAB_TRANSPORT"] = "sftp"
    server.compose("up", "--wait", "--scale", "worker=3")
    workers = server.containers("worker")
    assert len(workers) == 3
    _say(f"three workers healthy in {time.monotonic() - begin:.0f} s")
    seen: set[str] = set()

    def all_done() -> bool:
        server.forget()
        for dag in BEAMTIMES:
            run = server.begin(dag)
            assert server.end_of(dag, run) == "success", server.tasks(dag, run)
            assert server.certificate(BEAMTIMES[dag])["run"] == run
            seen.update(task["hostname"] for task in server.tasks(dag, run))
        source = server.certificate(BEAMTIMES[DESY])["source"]
        return len(seen) > 1 and source == "cdaniel@psftp.desy.de:/11010750"

    server.wait(all_done, lambda: f"more than one worker has work, and DESY's comes by SFTP; {seen}")
    assert all(any(worker.startswith(host) for worker in workers) for host in seen)
    _same_content(server)
