#!/bin/sh
# Runs the agent: agent.sh VERB, the request on stdin.
# In a Python that is too old the archive goes on in the other one, see archive.py; exit 77 where there is none that can.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
for python in python3 /usr/libexec/platform-python; do
  # shellcheck disable=SC2093  # the first that is there
  ! command -v "$python" >/dev/null || exec "$python" -I -B "$here/agent.pyz" "$@"
done
echo 'python3: not found on this host' >&2
exit 77
