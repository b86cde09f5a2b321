"""The first process of a job: it holds the locks, leaves signs of life, waits for the script, writes how it ended."""

import json
import os
import signal
import subprocess
import sys
import threading
from tempfile import TemporaryFile
from typing import Any, List, Optional

from beamferry_agent import processes
from beamferry_agent.environment import tool_environment
from beamferry_agent.errors import AgentError
from beamferry_agent.job_files import Folder, remove
from beamferry_agent.job_marks import Leader, Mark, read_mark
from beamferry_agent.job_state import progress_of, status_text
from beamferry_agent.locks import is_at, read_lock, write_lock

_HEARTBEAT_SECONDS = 2
# As a shell has it.
_NOT_FOUND, _SIGNALLED = 127, 128
# The job's own result is lost; what it did is done, and the next try finds it.
_RESULT_LOST = 76


def supervise(text: str) -> str:
    """Run a job to its end; the order is made by ``launching.launch``."""
    order = json.loads(text)
    os.umask(0o077)
    supervisor = _Supervisor(order)
    ready = order["ready"]
    try:
        supervisor.claim()
    except AgentError as error:
        os.write(ready, str(error).encode("utf-8", "backslashreplace"))
        return ""
    os.write(ready, b"ready")
    os.close(ready)
    supervisor.run(order["script"], order["arguments"])
    return ""


class _Supervisor:
    def __init__(self, order: Any) -> None:
        self._folder = Folder(order["job"])
        self._mark = Mark(*order["mark"])
        self._locks = [(path, handle) for path, handle in order["locks"]]
        here = processes.this_host()
        self._leader = Leader(os.getpid(), processes.born(os.getpid()), here.name)
        self._ended = threading.Event()
        self._asked_to_end = False
        self._beats = 0

    def claim(self) -> None:
        """Write down who has the locks and the folder. Raises HomeError."""
        self._keep_locks(lives=True)
        self._folder.write("pid", self._leader.to_text())
        self._folder.touch("heartbeat")

    def run(self, script: str, arguments: List[str]) -> None:
        """Run the script, and write down how it ended."""
        # A signal reaches the whole group; the leader waits for the script.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._be_asked_to_end)
        heart = threading.Thread(target=self._beat, daemon=True)
        heart.start()
        code = self._code(script, arguments)
        self._ended.set()
        heart.join()
        if self._is_mine():
            self._write_end(code)
        else:
            self._say("Another start has this folder now: code {} is not written there.".format(code))
        self._say_told()

    def _be_asked_to_end(self, _number: int, _frame: Any) -> None:
        self._asked_to_end = True

    def _code(self, script: str, arguments: List[str]) -> int:
        kept = [handle for _, handle in self._locks]
        try:
            child = self._started(script, arguments, kept)
        except OSError as error:
            self._say("{} cannot be started: {}".format(script, error.strerror))
            return _NOT_FOUND
        if self._asked_to_end:
            child.terminate()
        code = child.wait()
        return _SIGNALLED - code if code < 0 else code

    def _started(self, script: str, arguments: List[str], kept: List[int]) -> "subprocess.Popen[bytes]":
        """Start a script, or a step of the agent's own, whose arguments no other process sees."""
        if script.endswith(".sh"):
            words = [word.encode("utf-8", "surrogateescape") for word in ("bash", script, *arguments)]
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, env=tool_environment(), pass_fds=kept)
        order = {"step": script, "arguments": arguments, "locks": kept}
        # For whoever looks at the processes: the step, and the beamtime's key.
        shown = (script, os.path.basename(os.path.dirname(self._folder.path)))
        words = [os.fsencode(word) for word in (sys.executable, "-I", "-B", sys.argv[0], "step", *shown)]
        with TemporaryFile() as file:
            file.write(json.dumps(order).encode("ascii"))
            file.seek(0)
            return subprocess.Popen(words, stdin=file, env=tool_environment(), pass_fds=kept)

    def _beat(self) -> None:
        """Leave a sign of life until the end: it never outlives this process."""
        while True:
            try:
                if self._is_mine():
                    self._folder.make_way()
                    self._folder.touch("heartbeat")
                    self._tell("running", None)
            except AgentError as error:
                # A home folder that takes nothing now may do so later.
                self._say("No sign of life could be left: {}".format(error))
            self._say_told()
            if self._ended.wait(_HEARTBEAT_SECONDS):
                return

    def _is_mine(self) -> bool:
        """Say whether the folder is still this start's; what is damaged of what says so is written anew.

        Raises HomeError.
        """
        if not self._folder.exists():
            return False
        found = read_mark(self._folder.look("mark"))
        if found is not None and found.generation != self._mark.generation:
            return False
        path, handle = self._locks[0]
        if is_at(handle, path):
            self._keep_locks(lives=True)
            self._folder.keep("mark", self._mark.to_text())
            self._folder.keep("pid", self._leader.to_text())
            return True
        return found is not None

    def _keep_locks(self, lives: bool) -> None:
        """Have the files of the locks say who has them, and whether its first process lives."""
        text = self._mark.to_text()
        if lives:
            text += "process=" + self._leader.to_text()
        # The last is the one of versions before this, which read a folder there.
        for (_, handle), content in zip(self._locks, (text, text, self._folder.path + "\n")):
            if read_lock(handle) != content.encode():
                write_lock(handle, content.encode())

    def _write_end(self, code: int) -> None:
        if self._mark.secret:
            remove(self._mark.secret)
        if self._folder.is_damaged("result.json"):
            self._folder.put_aside("result.json")
            code = code or _RESULT_LOST
        if self._folder.look("result.json") is None:
            result = {"phase": "ended", "exit_code": code, "seconds": 0}
            self._folder.write("result.json", json.dumps(result) + "\n")
        # What this process does from here on is not the job any more.
        self._keep_locks(lives=False)
        self._folder.write("exit_code", "{}\n".format(code))
        self._tell("finished", code)

    def _tell(self, state: str, code: Optional[int]) -> None:
        """Write what whoever watches the job reads, so that nothing has to be started for it."""
        self._beats += 1
        generation, progress = self._mark.generation, progress_of(self._folder.path)
        text = status_text(state, code, 0, generation, progress, self._beats)
        self._folder.renew("status.json", text + "\n")

    def _say_told(self) -> None:
        told, self._folder.told = self._folder.told, []
        for sentence in told:
            self._say(sentence)

    @staticmethod
    def _say(sentence: str) -> None:
        sys.stdout.write(sentence + "\n")
        sys.stdout.flush()
