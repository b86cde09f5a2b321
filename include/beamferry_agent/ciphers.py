"""Which cipher ssh takes first, where nobody has chosen one."""

import subprocess
from typing import Sequence, Tuple

_FIRST = "aes128-gcm@openssh.com"


def prefer_aes(words: Sequence[str], host: str) -> Tuple[str, ...]:
    """Return ssh's words with AES as the first choice where the processor has it built in.

    OpenSSH's own first choice, ChaCha20, takes twice the processor time then (2.4 s against 1.2 s per GiB, both ends
    together, OpenSSH 9.2). A choice that somebody made in the configuration stays.
    """
    with open("/proc/cpuinfo") as file:
        if "aes" not in file.read().split():
            return tuple(words)
    code, settings = _settings((*words, "-G", "--", host))
    if code != 0 or not any(line.startswith("ciphers chacha20") for line in settings.splitlines()):
        return tuple(words)
    # "^", before the others, came with OpenSSH 8.1; the far side may still choose any of the others.
    option = ("-o", "Ciphers=^" + _FIRST)
    if _settings((*words, "-G", *option, "--", host))[0] != 0:
        return tuple(words)
    return (*words, *option)


def _settings(words: Sequence[str]) -> Tuple[int, str]:
    done = subprocess.run(
        words,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        universal_newlines=True,
    )
    return done.returncode, done.stdout
