#!/bin/sh
# Runs the agent with a Python that can: agent.sh VERB, the request on stdin. Exit 77 where there is no such Python.
# `agent.sh python` prints the version of the Python that is used.
for python in python3 /usr/libexec/platform-python; do
  version=$("$python" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 6))' \
    2>/dev/null) || continue
  if [ "$1" = python ]; then
    echo "$version"
    exit
  fi
  # shellcheck disable=SC2093  # the first that can is the one
  exec "$python" -I -B "$(dirname "$0")/agent.pyz" "$@"
done
echo 'python3: not found on this host, or older than 3.6' >&2
exit 77
