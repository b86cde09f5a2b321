#!/usr/bin/env bash
# Looks whether a transfer can begin: tools here, the destination, the facility and the source there.
#
#   probe.sh --host H --account A --source P --destination-root R --destination D --ssh "ssh -o ..." --seconds N
#
# Prints KEY=VALUE lines, each value on one line, and "end=yes" last, so that a cut answer is seen as one. It
# changes nothing but a folder of its own below the destination root, which it removes again.
set -uo pipefail
export LC_ALL=C

host='' account='' source='' root='' destination='' words=ssh seconds=60
while (($#)); do
  case $1 in
    --host) host=${2:-} && shift 2 ;;
    --account) account=${2:-} && shift 2 ;;
    --source) source=${2:-} && shift 2 ;;
    --destination-root) root=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --ssh) words=${2:-} && shift 2 ;;
    --seconds) seconds=${2:-} && shift 2 ;;
    *) echo "probe.sh: unknown argument $1" >&2 && exit 78 ;;
  esac
done
[[ -n $host && -n $account && -n $source && -n $root && -n $destination && $seconds =~ ^[1-9][0-9]*$ ]] || {
  echo "probe.sh: --host, --account, --source, --destination-root and --destination are needed, and a number of seconds" >&2
  exit 78
}

readonly ANSWER_KIB=256
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/probe_here.sh
. "$here/probe_here.sh"
# shellcheck source=include/beamferry/remote/ssh.sh
. "$here/ssh.sh"

probe_tools dd timeout
probe_destination

# --- the facility -------------------------------------------------------------------------------------------

# The far log-in shell is unknown and may print text: our own lines come behind a mark, from a sh of our own. What that
# is called with tells it from a shell that the log-in shell began in its place, and that reads the same lines.
quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

far_script() {
  cat <<SCRIPT
echo beamferry-begin
echo far_command=\$1
LC_ALL=C; export LC_ALL
s=$(quoted "$source")
t() { if "\$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
echo "source_exists=\$(t test -e "\$s")"
echo "source_is_folder=\$(t test -d "\$s")"
echo "source_readable=\$(t ls "\$s/.")"
echo "source_reason=\$(ls "\$s/." 2>&1 >/dev/null | sed -n '\$s/.*: //p')"
echo "far_rsync=\$(command -v rsync >/dev/null 2>&1 && rsync --version 2>/dev/null | sed -n 1p)"
echo "far_find=\$(t find / -maxdepth 0 -printf x)"
echo "far_sha256sum=\$(t sha256sum /dev/null)"
echo "far_time=\$(date +%s)"
echo beamferry-end
SCRIPT
}

if command -v ssh >/dev/null; then
  read -r -a far <<<"$(known_words "$words")"
  scratch=$(mktemp -d)
  trap 'rm -rf -- "$scratch"' EXIT
  code=0
  # A log-in may print without end: what comes is kept in files of a bounded size.
  (
    ulimit -c 0 -f "$ANSWER_KIB"
    far_script | timeout -k 5 "$seconds" "${far[@]}" -l "$account" -- "$host" exec sh -s beamferry \
      >"$scratch/answer" 2>"$scratch/errors"
  ) 2>/dev/null || code=$?
  endless=no
  for file in "$scratch"/*; do (($(stat -c %s "$file") < ANSWER_KIB * 1024)) || endless=yes; done
  answer=$(tr -d '\000' <"$scratch/answer")
  say far_exit "$code"
  say far_endless "$endless"
  say_lines far_errors "$scratch/errors"
  say far_begun "$(yes_or_no grep -qx beamferry-begin <<<"$answer")"
  say far_noise "$(printf '%s\n' "$answer" | sed '/^beamferry-begin$/,$d; 4,$d')"
  printf '%s\n' "$answer" | sed -n '/^beamferry-begin$/,/^beamferry-end$/p' | grep -E '^(source|far)_[a-z0-9_]+=' |
    tr -d '\000-\011\013-\037\177'
  say near_time "$(date +%s)"
fi
echo end=yes
