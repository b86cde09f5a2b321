"""What stands in for the slow parts of RDS-SSH, so that a step takes half a second: none of them decides anything.

A log-in is a process of the same shell, files are read and written where they lie, the agent is this tree's own code
that was imported once, and the scripts' pauses are short. Where something is killed, the real agent is started each
time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import beamferry_agent

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from beamferry.lab.host import Host

# Where the tests import the product from.
INCLUDE = Path(beamferry_agent.__file__).parents[1]
# The scripts wait now and then; that takes a tenth of its time here. What waits for nothing but the clock is not tried.
_SHORT_PAUSES = """\
#!/bin/sh
case $1 in
  0.*) exec /bin/sleep "0.0${1#0.}" ;;
  *.*) exec /bin/sleep "0.${1%%.*}" ;;
  *) exec /bin/sleep "$(($1 / 10)).$(($1 % 10))" ;;
esac
"""
# In the place of python3: asks the agent that waits. It takes its request and gives its answer as NUL-terminated texts.
_ASKS = """\
#!/bin/bash
case $2,${3##*/},$4 in
  *,agent.pyz,compare | *,agent.pyz,publish) ;;
  # What starts programs of its own does so for real.
  *) exec /usr/bin/python3 "$@" ;;
esac
[[ ! -e @folder@/real-agent ]] || exec /usr/bin/python3 "$@"
exec {agent}<>/dev/tcp/127.0.0.1/@port@
{ printf '%s\\0' "$HOME" "$PWD" "$(umask)" "$4"; cat; printf '\\0'; } >&"$agent"
IFS= read -r -d '' code <&"$agent" && IFS= read -r -d '' out <&"$agent" && IFS= read -r -d '' err <&"$agent" || exit 76
printf '%s' "$out"
printf '%s' "$err" >&2
exit "$code"
"""
_WAITS = """\
import contextlib, io, os, runpy, signal, socket, sys
sys.path.insert(0, sys.argv[1])
import beamferry_agent, hashlib, tempfile, json, getpass, shutil, subprocess, typing
for name in os.listdir(beamferry_agent.__path__[0]):
    if name.endswith(".py") and name != "__main__.py":
        __import__("beamferry_agent." + name[:-3])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", 0), backlog=64)
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        data = b""
        while data.count(b"\\0") < 5:
            part = connection.recv(65536)
            if not part:
                os._exit(1)
            data += part
        home, folder, mask, verb, request, _ = data.split(b"\\0")
        os.environ["HOME"] = os.fsdecode(home)
        os.chdir(folder)
        os.umask(int(mask, 8))
        sys.argv = ["agent", verb.decode()]
        sys.stdin, code = io.StringIO(request.decode()), 0
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", write_through=True) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module("beamferry_agent", run_name="__main__")
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                code = 1
                print(repr(error), file=sys.stderr)
        # Whoever asked may have been ended meanwhile.
        with contextlib.suppress(BrokenPipeError):
            for text in (str(code).encode(), out.buffer.getvalue(), err.buffer.getvalue()):
                connection.sendall(text + b"\\0")
        connection.close()
        os._exit(0)
    connection.close()
"""


class WaitingAgent:
    """The agent, imported once; each request has a process of its own."""

    def __init__(self, host: Host) -> None:
        self._folder = host.folder
        self._process = subprocess.Popen(
            (sys.executable, "-I", "-c", _WAITS, str(INCLUDE)),
            stdout=subprocess.PIPE,
            text=True,
            # A signal to the test's group ends the test first.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        pause, asks = host.shims / "sleep", host.shims / "python3"
        pause.write_text(_SHORT_PAUSES)
        asks.write_text(_ASKS.replace("@folder@", str(self._folder)).replace("@port@", port))
        for shim in (pause, asks):
            shim.chmod(0o755)

    def started_each_time(self, wanted: bool) -> None:
        """Have the real agent started for each request, as it is where something may be killed."""
        mark = self._folder / "real-agent"
        if wanted:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class _Channel:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def recv_exit_status(self) -> int:
        return self._process.wait()


class _Output:
    def __init__(self, process: subprocess.Popen[bytes], stream: IO[bytes]) -> None:
        self.channel, self._stream = _Channel(process), stream

    def read(self, size: int = -1) -> bytes:
        with self._stream:
            return self._stream.read(size)


class _Files:
    """What our sessions use of SFTP; names are relative to the home folder."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def open(self, name: str, mode: str) -> Any:
        return _Handle((self._home / name).open(mode))

    def stat(self, name: str) -> os.stat_result:
        return (self._home / name).stat()

    def chmod(self, name: str, mode: int) -> None:
        (self._home / name).chmod(mode)

    def posix_rename(self, old: str, new: str) -> None:
        (self._home / old).replace(self._home / new)

    def remove(self, name: str) -> None:
        (self._home / name).unlink()

    def mkdir(self, name: str, mode: int) -> None:
        (self._home / name).mkdir(mode)


class _Handle:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def set_pipelined(self, pipelined: bool) -> None:
        pass

    def read(self, limit: int) -> bytes:
        return self._file.read(limit)

    def write(self, content: bytes) -> None:
        self._file.write(content)


class Here:
    """A log-in to a host of this machine, in the place of paramiko's client."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._environment: Mapping[str, str] = {
            "PATH": f"{host.shims}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": str(host.home),
            "LANG": "C.UTF-8",
        }

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def exec_command(self, command: str, timeout: float) -> tuple[IO[bytes], _Output, _Output]:  # noqa: ARG002
        process = subprocess.Popen(
            ("/bin/bash", "--norc", "-c", command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._host.home,
            env=self._environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        return process.stdin, _Output(process, process.stdout), _Output(process, process.stderr)

    def open_sftp(self) -> _Files:
        return _Files(self._host.home)
