"""Serves a model of a file system as a real mount, by the kernel's own protocol (linux/fuse.h): files without content.

unshare --mount python fuse_server.py MODEL FOLDER    says "mounted", and serves until it is killed
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from file_systems import Model, model, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR = 1, 2, 3, 4, 9, 10, 11
OPEN, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 14, 17, 18, 25, 26, 27, 28, 29
CREATE, BATCH_FORGET = 35, 42
SILENT = {FORGET, BATCH_FORGET}
HEAD = struct.Struct("<IIQQIIII")
BUFFER = 1 << 20
NODEV, NOSUID = 4, 2


class Server:
    """The tree, and the kernel's requests about it; number 1 is its root."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.folders: dict[int, Model] = {1: model(kind)}
        self.numbers: dict[tuple[int, bytes], int] = {}
        self.modes: dict[int, int] = {1: stat.S_IFDIR | 0o755}

    def find(self, parent: int, name: bytes) -> tuple[bytes, int]:
        """Return the key and the number of a name."""
        there = self.folders[parent]
        key = there.key(there.stored(name))
        if (parent, key) not in self.numbers:
            raise refused(errno.ENOENT)
        return key, self.numbers[parent, key]

    def make(self, parent: int, name: bytes, mode: int) -> int:
        there = self.folders[parent]
        there.make(b"", name)
        number = max(self.modes) + 1
        self.numbers[parent, there.key(there.stored(name))] = number
        self.modes[number] = mode
        if stat.S_ISDIR(mode):
            self.folders[number] = model(self.kind)
        return number

    def remove(self, parent: int, name: bytes) -> None:
        key, number = self.find(parent, name)
        if number in self.folders and self.folders[number].listing(b""):
            raise refused(errno.ENOTEMPTY)
        del self.numbers[parent, key]
        del self.folders[parent].folders[b""][key]
        self.folders.pop(number, None)

    def attributes(self, number: int) -> bytes:
        now = int(time.time())
        return struct.pack(
            "<QQQQQQIIIIIIIIII",
            *(number, 0, 0, now, now, now, 0, 0, 0),
            *(self.modes[number], 1, os.geteuid(), os.getegid(), 0, 4096, 0),
        )

    def entry(self, number: int) -> bytes:
        # Nothing is to be remembered by the kernel: each look is ours.
        return struct.pack("<QQQQII", number, 0, 0, 0, 0, 0) + self.attributes(number)

    def listing(self, number: int, offset: int, room: int) -> bytes:
        there = self.folders[number]
        names = [b".", b"..", *sorted(there.listing(b""))]
        answer = b""
        for place, name in enumerate(names[offset:], offset + 1):
            inner = self.numbers.get((number, there.key(name)), number)
            kind = stat.S_IFMT(self.modes[inner]) >> 12
            record = struct.pack("<QQII", inner, place, len(name), kind) + name
            record += b"\0" * (-len(record) % 8)
            if len(answer) + len(record) > room:
                break
            answer += record
        return answer

    def answer(self, code: int, number: int, body: bytes) -> bytes:  # noqa: PLR0911 - one for each request
        if code == INIT:
            return struct.pack("<IIIIHHIIHHIIIIII", 7, 31, 0, 0, 1, 1, 4096, 1, 32, 0, 0, 0, 0, 0, 0, 0)
        if code == LOOKUP:
            return self.entry(self.find(number, body.rstrip(b"\0"))[1])
        if code in {GETATTR, SETATTR}:
            return struct.pack("<QII", 0, 0, 0) + self.attributes(number)
        if code == MKDIR:
            (mode,) = struct.unpack_from("<I", body)
            return self.entry(self.make(number, body[8:].rstrip(b"\0"), stat.S_IFDIR | mode & 0o7777))
        if code == CREATE:
            (mode,) = struct.unpack_from("<4xI", body)
            made = self.make(number, body[16:].rstrip(b"\0"), stat.S_IFREG | mode & 0o7777)
            return self.entry(made) + struct.pack("<QII", 0, 0, 0)
        if code in {UNLINK, RMDIR}:
            self.remove(number, body.rstrip(b"\0"))
            return b""
        if code in {OPEN, OPENDIR}:
            return struct.pack("<QII", 0, 0, 0)
        if code == READDIR:
            _, offset, room = struct.unpack_from("<QQI", body)
            return self.listing(number, offset, room)
        if code == STATFS:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 0, 0, 4096, 255, 4096, 0)
        if code in {RELEASE, RELEASEDIR, FLUSH}:
            return b""
        raise refused(errno.ENOSYS)

    def serve(self, device: int) -> None:
        """Answer until the file system is unmounted."""
        while True:
            try:
                request = os.read(device, BUFFER)
            except OSError as error:
                if error.errno in {errno.EINTR, errno.ENOENT}:
                    continue
                return
            _, code, unique, number, *_ = HEAD.unpack_from(request)
            try:
                failed, body = 0, self.answer(code, number, request[HEAD.size :])
            except OSError as error:
                failed, body = error.errno or errno.EIO, b""
            if code not in SILENT:
                os.write(device, struct.pack("<IiQ", 16 + len(body), -failed, unique) + body)


def mount(folder: Path) -> int:
    """Return the device of a new mount."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"beamferry-test", os.fsencode(folder), b"fuse", NODEV | NOSUID, options.encode()) != 0:
        raise refused(ctypes.get_errno())
    return device


def apart() -> tuple[str, ...]:
    """Return the words that give what follows mounts of its own."""
    return ("unshare", *(("--user", "--map-root-user") if os.geteuid() != 0 else ()), "--mount")


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """Mount a model over a folder, for those who are led there by these words before their command."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there for this account")
    server = subprocess.Popen(
        (*apart(), sys.executable, __file__, kind, str(folder)),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "mounted\n"
        there = ("--user", "--preserve-credentials") if os.geteuid() != 0 else ()
        yield ("nsenter", f"--target={server.pid}", "--mount", *there, "--")
    finally:
        server.kill()
        server.communicate()


if __name__ == "__main__":
    served = mount(Path(sys.argv[2]))
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    Server(sys.argv[1]).serve(served)
