"""The environment in which tools are started: few names are let through, so that habits of the account do not count."""

import os
import pwd
from typing import Dict, Mapping, Optional

# What a tool needs to find itself, its home, the account's keys and tickets. Nothing else is let through: options of
# tools (RSYNC_*, GREP_OPTIONS, POSIXLY_CORRECT), of shells (BASH_ENV, ENV, SHELLOPTS), of languages and of proxies.
_LET_THROUGH = frozenset(
    (
        "HOME",
        "USER",
        "LOGNAME",
        "PATH",
        # Programs of an environment module have their libraries there.
        "LD_LIBRARY_PATH",
        "SSH_AUTH_SOCK",
        "KRB5CCNAME",
        "KRB5_CONFIG",
        # Where lftp looks for its settings.
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
    )
)
# Of our own scripts, e.g. the mark by which a job's processes are known.
_OURS = "BEAMFERRY_"
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def tool_environment(
    own: Optional[Mapping[str, str]] = None, given: Optional[Mapping[str, str]] = None
) -> Dict[str, str]:
    """Return the environment in which tools and scripts are started.

    ``own``: what else is set, in place of what is there. ``given``: the environment that it is made of; this process's
    where it is None.
    """
    found = os.environ if given is None else given
    made = {name: value for name, value in found.items() if name in _LET_THROUGH or name.startswith(_OURS)}
    folder = found.get("TMPDIR", "")
    # Else a tool looks where it would without it.
    if os.path.isabs(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
        made["TMPDIR"] = folder
    # Tools are started in folders that others can write to: what is looked for "here" could be theirs.
    made["PATH"] = ":".join(part for part in made.get("PATH", "").split(":") if os.path.isabs(part)) or _PATH
    if not made.get("HOME"):
        made["HOME"] = _home()
    made["LC_ALL"] = "C"
    made.update(own or {})
    return made


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"
