#!/bin/sh
# Runs the agent in an environment of its own: own.sh VERB [ARGUMENT...]. What counts of the output stands
# behind a mark, as the account's start files may print before it; where one of them ends the shell, or starts another
# one in its place, there is no mark.
# As environment.py of the agent has them, and for the same reasons.
names="HOME USER LOGNAME PATH LD_LIBRARY_PATH SSH_AUTH_SOCK KRB5CCNAME KRB5_CONFIG XDG_CONFIG_HOME XDG_RUNTIME_DIR"
names="$names $(env | sed -n 's/^\(BEAMFERRY_[A-Z0-9_]*\)=.*/\1/p')"
set -- sh "${0%/*}/agent.sh" "$@"
# Else a tool looks where it would without it.
case ${TMPDIR-} in /*) if [ -d "$TMPDIR" ] && [ -w "$TMPDIR" ]; then set -- "TMPDIR=$TMPDIR" "$@"; fi ;; esac
for name in $names; do
  eval "value=\${$name-}"
  # shellcheck disable=SC2154  # eval sets it
  [ -z "$value" ] || set -- "$name=$value" "$@"
done
printf '\n%s\n' beamferry-answer
exec env -i LC_ALL=C "$@"
