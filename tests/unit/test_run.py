"""``./run`` itself, in a copy: bash is real, and stand-ins for Python and apt-get write down how they were called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# What bash scripts find on any Debian, and what the scripts under test may use.
BASICS = (
    "bash",
    "cat",
    "chmod",
    "cksum",
    "dirname",
    "env",
    "flock",
    "grep",
    "head",
    "mkdir",
    "mktemp",
    "rm",
    "true",
)
CONTAINERS = "tests/deploy/test_compose.py"
WITHOUT_CONTAINERS = f"[--ignore={CONTAINERS}]"
WITHOUT_CHAIN = "[--ignore=tests/chain] [--ignore=tests/faults]"

# Makes an environment as ``-m venv`` does, whose Python and beamferry write down how they were called.
PYTHON = f"""#!/usr/bin/env bash
case "$*" in
  *version_info\\ \\<*|*ensurepip*) [ -z "${{LACKS_ENSUREPIP-}}" ] || [[ $* != *ensurepip* ]] ;;
  "-m venv --clear .venv")
    echo "python: $*" >>"$CALLS"
    mkdir -p .venv/bin
    cat >.venv/bin/python <<'INNER'
#!/usr/bin/env bash
case "$*" in
  -V) echo Python 3.11.2 ;;
  "-m pip --version") ;;
  "-m pytest -m not long {CONTAINERS}")
    echo "containers: ${{CONTAINERS_FAIL-passed}}"
    exit "${{CONTAINERS_FAIL:-0}}"
    ;;
  "-m pytest -m not long tests/chain tests/faults")
    echo "chain: ${{CHAIN_FAIL-passed}}"
    exit "${{CHAIN_FAIL:-0}}"
    ;;
  "-m pytest -m not long tests/lab/test_lftp_"*)
    echo "lftp: ${{LFTP_FAIL-passed}}"
    exit "${{LFTP_FAIL:-0}}"
    ;;
  *) echo "venv:$(printf ' [%s]' "$@")" >>"$CALLS"; exit "${{VENV_FAILS:-0}}" ;;
esac
INNER
    printf '#!/usr/bin/env bash\\necho "beamferry:$(printf " [%%s]" "$@")" >>"$CALLS"\\n' >.venv/bin/beamferry
    chmod +x .venv/bin/*
    ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
LOGGED = '#!/usr/bin/env bash\necho "{name}: $*" >>"$CALLS"\n{rest}\n'


@dataclass(frozen=True)
class Machine:
    """A copy of the checkout, and a PATH that holds only what was put there."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    def put(self, name: str, text: str) -> None:
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def logged(self, name: str, rest: str = "") -> None:
        self.put(name, LOGGED.format(name=name, rest=rest))

    def calls(self) -> list[str]:
        """What was called since the last look."""
        path = self.folder / "calls"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        path.unlink()
        return lines

    def run(self, *words: str, program: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (str(self.checkout / program), *words),
            env={"PATH": str(self.programs), "CALLS": str(self.folder / "calls"), **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with Python and the programs of the lab, and an ordinary user without sudo."""
    machine = Machine(tmp_path)
    (machine.checkout / ".ci").mkdir(parents=True)
    for name in ("run", ".ci/run", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, machine.checkout / name)
    machine.programs.mkdir()
    for name in BASICS:
        found = shutil.which(name)
        assert found is not None, name
        (machine.programs / name).symlink_to(found)
    for name in (
        "sshd",
        "ssh",
        "rsync",
        "unshare",
        "lftp",
        "pure-ftpd",
        "openssl",
        "chromium",
        "chromedriver",
    ):
        machine.logged(name)
    machine.put("python3", PYTHON)
    machine.put("id", "#!/usr/bin/env bash\necho 1000\n")
    machine.put("dpkg-query", "#!/usr/bin/env bash\nexit 1\n")
    machine.logged("apt-get")
    return machine


def test_help_needs_nothing_and_sets_up_nothing(machine: Machine) -> None:
    (machine.programs / "python3").unlink()
    for words in ((), ("help",), ("--help",)):
        done = machine.run(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("./run VERB")
    assert not (machine.checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("dance", "there is no verb 'dance'"),
        ("tset", "there is no verb 'tset'; did you mean 'test'?"),
        ("Lab", "there is no verb 'Lab'; did you mean 'lab'?"),
        ("beamfery", "there is no verb 'beamfery'; did you mean 'beamferry'?"),
        ("deploytest", "there is no verb 'deploytest'; did you mean 'deploy-test'?"),
        ("pu", "there is no verb 'pu'; did you mean 'up'?"),
        ("xy", "there is no verb 'xy'"),
        ("*", "there is no verb '*'"),
        ("$(id)", "there is no verb '$(id)'"),
    ],
)
def test_an_unknown_verb_is_said_and_the_nearest_one_with_the_list(
    machine: Machine, verb: str, said: str
) -> None:
    done = machine.run(verb)
    assert done.returncode == 2
    assert done.stdout == ""
    first, _, rest = done.stderr.partition("\n")
    assert first == f"run: {said}"
    assert "./run VERB" in rest
    assert machine.calls() == []


def test_sets_up_at_the_first_call_only(machine: Machine) -> None:
    assert machine.run("beamferry", "check").returncode == 0
    made, installed, called = machine.calls()
    assert made == "python: -m venv --clear .venv"
    assert "[--constraint] [constraints.txt] [--editable] [.[dev]]" in installed
    assert called == "beamferry: [check]"
    done = machine.run("beamferry", "check")
    assert done.stderr == ""
    assert machine.calls() == ["beamferry: [check]"]


def test_installs_again_when_a_version_changes(machine: Machine) -> None:
    machine.run("beamferry")
    machine.calls()
    with (machine.checkout / "constraints.txt").open("a") as file:
        file.write("another==1\n")
    machine.run("beamferry")
    assert machine.calls()[0].startswith("venv: [-m] [pip] [install]")


def test_makes_the_environment_anew_in_another_folder(machine: Machine) -> None:
    machine.run("beamferry")
    moved = Machine(machine.folder / "elsewhere")
    machine.folder.joinpath("elsewhere").mkdir()
    for name in ("checkout", "programs"):
        (machine.folder / name).rename(moved.folder / name)
    moved.run("beamferry")
    assert moved.calls()[0] == "python: -m venv --clear .venv"


def test_an_installation_that_failed_is_tried_again(machine: Machine) -> None:
    done = machine.run("beamferry", VENV_FAILS="1")
    assert done.returncode == 1
    assert not any(call.startswith("beamferry") for call in machine.calls())
    assert machine.run("beamferry").returncode == 0
    assert [call.split(":")[0] for call in machine.calls()] == ["venv", "beamferry"]


def test_words_after_the_verb_arrive_as_they_are(machine: Machine) -> None:
    machine.run("lab", "up", "--size", "a b", "$(c)", "")
    assert machine.calls()[-1] == "beamferry: [lab] [up] [--size] [a b] [$(c)] []"
    machine.run("faults", "-k", "one or two")
    without = f"{WITHOUT_CONTAINERS} [--ignore=tests/truth]"
    assert machine.calls()[-1] == f"venv: [-m] [pytest] [-m] [long] {without} [-k] [one or two]"


def test_sequences_of_the_test_of_truth_are_a_number(machine: Machine) -> None:
    machine.run("truth", "200")
    assert machine.calls()[-1] == "venv: [-m] [pytest] [-m] [long] [--capture=no] [tests/truth]"
    for words in (("many",), ("0",), ("1", "2")):
        refused = machine.run("truth", *words)
        assert refused.returncode == 2
        assert "./run truth 200" in refused.stderr
    assert machine.calls() == []


@pytest.fixture
def tested(machine: Machine) -> Machine:
    """A machine whose environment is ready, where lint finds nothing."""
    machine.run("beamferry")
    for name in ("ruff", "mypy", "lint-imports", "shellcheck", "vermin"):
        (machine.checkout / ".venv" / "bin" / name).symlink_to(machine.programs / "true")
    machine.calls()
    return machine


def test_the_containers_are_tested_beside_the_others_where_an_engine_is(tested: Machine) -> None:
    tested.logged("docker")
    done = tested.run("test")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "lftp: passed\ncontainers: passed\nchain: passed\n"
    calls = tested.calls()
    without = f"{WITHOUT_CONTAINERS} [--ignore-glob=tests/lab/test_lftp_*.py] {WITHOUT_CHAIN}"
    (rest,) = (call for call in calls if call.startswith(f"venv: [-m] [pytest] [-m] [not long] {without}"))
    # What the stream of lftp has as well.
    assert "[--ignore=tests/security]" in rest
    assert "docker: compose --profile lab config --quiet" in calls


@pytest.mark.parametrize("failure", ["CONTAINERS_FAIL", "CHAIN_FAIL", "LFTP_FAIL", "VENV_FAILS"])
def test_a_failure_of_any_is_one_of_the_whole(tested: Machine, failure: str) -> None:
    tested.logged("docker")
    done = tested.run("test", **{failure: "3"})
    assert done.returncode == 3
    assert re.fullmatch(r"lftp: \w+\ncontainers: \w+\nchain: \w+\n", done.stdout)


def test_without_an_engine_a_person_is_told_what_is_left_out(tested: Machine) -> None:
    tested.logged("docker", "exit 1")
    done = tested.run("test")
    assert done.returncode == 0
    assert "docker-compose.yaml is NOT checked" in done.stderr
    assert f"no container engine answers: {CONTAINERS} is left out" in done.stdout
    assert tested.run("deploy-test").returncode == 1


@pytest.mark.parametrize("missing", ["version", "compose version"])
def test_without_an_engine_ci_fails(tested: Machine, missing: str) -> None:
    tested.logged("docker", f'[ "$*" != "{missing}" ]')
    done = tested.run("test", CI="true")
    assert done.returncode == 1
    assert "containers" not in done.stdout


def test_with_words_for_pytest_only_what_they_choose_runs(tested: Machine) -> None:
    tested.logged("docker")
    done = tested.run("test", "-k", "one or two")
    assert (done.returncode, done.stdout) == (0, "")
    chosen = f"venv: [-m] [pytest] [-m] [not long] {WITHOUT_CONTAINERS} [-k] [one or two]"
    assert tested.calls()[-1] == chosen


def test_says_which_python_is_missing(machine: Machine) -> None:
    machine.put("python3", "#!/usr/bin/env bash\nexit 1\n")
    done = machine.run("beamferry")
    assert done.returncode == 1
    assert "no Python of version 3.11 or later" in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_takes_a_newer_python_beside_an_old_one(machine: Machine) -> None:
    machine.put("python3", "#!/usr/bin/env bash\nexit 1\n")
    machine.put("python3.12", PYTHON)
    assert machine.run("beamferry").returncode == 0


def test_names_the_missing_packages_and_the_command_without_rights(machine: Machine) -> None:
    if Path("/usr/sbin/sshd").exists():
        missing = "rsync util-linux"
    else:
        (machine.programs / "sshd").unlink()
        missing = "openssh-server rsync util-linux"
    for name in ("rsync", "unshare"):
        (machine.programs / name).unlink()
    done = machine.run("lab", "status")
    assert done.returncode == 1
    assert f"  sudo apt-get install {missing}\n" in done.stderr
    assert not any(call.startswith(("apt-get", "beamferry")) for call in machine.calls())


def test_names_the_package_of_the_environment(machine: Machine) -> None:
    done = machine.run("beamferry", LACKS_ENSUREPIP="1")
    assert done.returncode == 1
    assert re.search(r"sudo apt-get install python3\.\d+-venv\n", done.stderr)


@pytest.mark.parametrize("user", ["root", "sudo"])
def test_installs_what_is_missing_when_allowed_to(machine: Machine, user: str) -> None:
    (machine.programs / "rsync").unlink()
    if user == "root":
        machine.put("id", "#!/usr/bin/env bash\necho 0\n")
        machine.logged("sudo", "exit 1")
    else:
        machine.logged("sudo", 'shift; exec "$@"')
    # Nobody may be asked anything; and that the list of packages could not be renewed need not matter.
    machine.logged("apt-get", '[ "${DEBIAN_FRONTEND-}" = noninteractive ]')
    done = machine.run("lab", "status")
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    assert "apt-get: install -y -qq --no-install-recommends rsync" in calls
    assert calls[-1] == "beamferry: [lab] [status]"
    assert any(call.startswith("sudo: -n env") for call in calls) == (user == "sudo")


def test_an_installation_of_packages_that_fails_ends_it(machine: Machine) -> None:
    (machine.programs / "rsync").unlink()
    machine.put("id", "#!/usr/bin/env bash\necho 0\n")
    machine.logged("apt-get", "exit 100")
    done = machine.run("lab", "status")
    assert done.returncode == 1
    assert "install them, then call again: rsync" in done.stderr
    assert not any(call.startswith("beamferry") for call in machine.calls())


def test_ci_calls_the_readmes_command_from_anywhere(machine: Machine) -> None:
    (machine.checkout / "run").write_text('#!/usr/bin/env bash\necho "$PWD: ./run $* CI=$CI"\n')
    machine.logged("docker")
    done = machine.run(program=".ci/run")
    assert done.stdout == f"{machine.checkout}: ./run test CI=true\n"


def test_ci_gets_an_engine_where_there_is_none(machine: Machine) -> None:
    (machine.checkout / "run").write_text('#!/usr/bin/env bash\necho "./run $* at $DOCKER_HOST"\n')
    machine.logged("docker", "exit 1")
    assert machine.run(program=".ci/run").returncode != 0
    tool = machine.folder / "shared" / "tools" / "container-engine"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/usr/bin/env bash\n[ "$*" = up ] && echo export DOCKER_HOST=unix:///engine\n')
    tool.chmod(0o755)
    assert machine.run(program=".ci/run").stdout == "./run test at unix:///engine\n"


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*==[\w.!+]+( ; [\w .<>='*!]+)?", line), line


def test_the_readme_names_every_verb() -> None:
    usage = subprocess.run((REPOSITORY / "run", "help"), capture_output=True, text=True, check=True).stdout
    verbs = {line.split()[0] for line in usage.splitlines() if line.startswith("  ")}
    named = set(re.findall(r"^\| `\./run ([a-z-]+)", (REPOSITORY / "README.md").read_text(), re.MULTILINE))
    assert verbs == named - {"help"}
    assert "help" in named
