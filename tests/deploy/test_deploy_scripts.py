"""What the image's build and the first container of a start decide, without any container."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from containers import REPOSITORY, jobs, pip_settings

if TYPE_CHECKING:
    from pathlib import Path

FERNET = "x" * 43 + "="


def _script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "deploy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


missing, place_secrets = _script("missing"), _script("place_secrets")


def test_what_is_installed_stays_and_the_rest_is_pinned() -> None:
    found = missing.constraints(
        ["apache-airflow>=3.3,<3.4", "apache-airflow-providers-ssh>=7.0.1", "typer"],
        ["apache-airflow==3.3.2", "apache-airflow-providers-ssh==7.0.1", "typer==0.29.2", "rich==15.0.0"],
        {"apache_airflow": "3.3.0", "apache-airflow-providers-ssh": "6.9", "Rich": "14.1"},
    )
    assert found == [
        "apache-airflow==3.3.0",
        "rich==14.1",
        "apache-airflow-providers-ssh==7.0.1",
        "typer==0.29.2",
    ]


def test_a_bare_python_gets_all_pins_with_their_markers() -> None:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if line]
    assert missing.constraints(["typer"], lines, {"pip": "23.2.1"}) == ["pip==23.2.1", *lines]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    for name in place_secrets.WORDS:
        (folder / name).write_text(f"{name}-0123456789abcdef\n")
    (folder / "fernet_key").write_text(FERNET)
    (folder / "passwords.json").write_text(json.dumps({"admin": "secret"}))
    (folder / "connections.yaml").write_text(
        "rds_ssh: {conn_type: ssh, extra: {key_file: /run/beamferry/rds_key, host_key: ssh-ed25519 AAAA}}\n"
    )
    (folder / "rds_key").write_text("a key\n")
    return folder


def test_complete_secrets_are_accepted(given: Path) -> None:
    place_secrets.check(given, "admin:admin")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("jwt_secret", None, "has no jwt_secret. Call deploy/prepare"),
        ("queue_password", "short", "queue_password must be one word of at least 16"),
        ("database_password", "0123456789abcdef@elsewhere", "database_password must be one word"),
        ("connections.yaml", "rds_ssh: {login: FILL-IN}", "rds_ssh still says FILL-IN"),
        ("connections.yaml", "rds_ssh: [", "is no valid YAML"),
        ("connections.yaml", "# nothing yet", "names no connection"),
        ("passwords.json", "{}", "no password for admin"),
        ("passwords.json", "{", "is no valid JSON"),
        ("rds_key", None, "deploy/secrets/rds_key is not there"),
    ],
)
def test_what_cannot_be_used_is_named(given: Path, name: str, text: str | None, said: str) -> None:
    if text is None:
        (given / name).unlink()
    else:
        (given / name).write_text(text)
    with pytest.raises(place_secrets.Refused, match=said.replace(".", r"\.")):
        place_secrets.check(given, "admin:admin")


def test_every_user_has_a_password(given: Path) -> None:
    with pytest.raises(place_secrets.Refused, match="no password for jane"):
        place_secrets.check(given, "admin:admin, jane:viewer")


def test_the_lab_s_secrets_are_taken_only_while_it_starts_and_never_beside_the_group_s(
    given: Path, tmp_path: Path
) -> None:
    lab, none = tmp_path / "lab", tmp_path / "none"
    lab.mkdir()
    none.mkdir()
    assert place_secrets.choose(none, lab) == none
    (lab / place_secrets.FRESH).touch()
    assert place_secrets.choose(none, lab) == lab
    with pytest.raises(place_secrets.Refused, match="holds a group's secrets"):
        place_secrets.choose(given, lab)


def test_placed_secrets_are_for_their_reader_alone_and_old_ones_go(given: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (target / "old_key").write_text("of an earlier start")
    (given / ".gitignore").write_text("*\n")
    for _ in range(2):
        place_secrets.place(given, target, os.geteuid())
    found = {path.name for path in target.iterdir()}
    assert found == {*place_secrets.FILES, "rds_key", "beamtimes.yaml"}
    assert {oct((target / name).stat().st_mode & 0o777) for name in found - {"beamtimes.yaml"}} == {"0o400"}
    assert oct(target.stat().st_mode & 0o777) == "0o700"
    assert (target / "beamtimes.yaml").readlink() == place_secrets.REGISTRY
    (given / "beamtimes.yaml").write_text("the lab's")
    place_secrets.place(given, target, os.geteuid())
    assert (target / "beamtimes.yaml").read_text() == "the lab's"


def test_two_jobs_of_a_beamtime_would_be_seen() -> None:
    step = "python3 -I -B .beamferry/bin/0d/agent.pyz step transfer diamond_mg25682-2"
    one = (
        "PID PPID PGID COMMAND\n"
        "9 1 7 python3 -I -B .beamferry/bin/0d/agent.pyz supervise\n"
        "8 1 6 python3 -I -B .beamferry/bin/0d/agent.pyz job\n"
        f"10 9 7 {step}\n11 10 7 sh -c umask rsync -r\n"
        "12 11 7 rsync -r -l\n13 12 13 rsync -r -l\n"
    )
    assert jobs(one) == {"diamond_mg25682-2": {"7"}, "rsync": {"7"}}
    second = f"20 1 5 {step}\n21 20 5 rsync -r\n"
    assert jobs(one + second) == {"diamond_mg25682-2": {"7", "5"}, "rsync": {"7", "5"}}
    left_over = "31 1 30 rsync -r\n32 1 32 rsync --version\n"
    assert jobs(one + left_over) == {"diamond_mg25682-2": {"7"}, "rsync": {"7", "none, process 31"}}


def test_the_values_for_kubernetes_name_what_is_there() -> None:
    text = (REPOSITORY / "deploy" / "helm-values.yaml").read_text()
    values = yaml.safe_load(text)
    assert values["executor"] == "KubernetesExecutor"
    pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert f"apache-airflow=={values['airflowVersion']}" in pins
    for name in re.findall(r"dags/\w+\.py", text):
        assert (REPOSITORY / name).is_file(), name
    # Each is made beforehand, as its head says, and none of their words is in it.
    for secret in {
        values["data"]["metadataSecretName"],
        values["fernetKeySecretName"],
        "beamferry-connections",
    }:
        assert f"create secret generic {secret} " in text


def test_settings_that_a_container_cannot_reach_are_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.ac.uk/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///srv/packages https://more.example.ac.uk/simple")
    assert pip_settings().splitlines()[0] == "[global]"
    assert set(pip_settings().splitlines()[1:]) >= {
        "index-url = https://packages.example.ac.uk/simple",
        "extra-index-url = https://more.example.ac.uk/simple",
    }
    assert "file:" not in pip_settings()
