#!/usr/bin/env bash
# Looks whether a transfer can begin: tools here, the destination, the facility and the source there.
#
#   probe.sh --host H --account A --source P --destination-root R --destination D --ssh "ssh -o ..."
#
# Prints KEY=VALUE lines, each value on one line, and "end=yes" last, so that a cut answer is seen as one. It
# changes nothing but a folder of its own below the destination root, which it removes again.
set -uo pipefail
export LC_ALL=C

host='' account='' source='' root='' destination='' words=ssh
while (($#)); do
  case $1 in
    --host) host=${2:-} && shift 2 ;;
    --account) account=${2:-} && shift 2 ;;
    --source) source=${2:-} && shift 2 ;;
    --destination-root) root=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --ssh) words=${2:-} && shift 2 ;;
    *) echo "probe.sh: unknown argument $1" >&2 && exit 78 ;;
  esac
done
[[ -n $host && -n $account && -n $source && -n $root && -n $destination ]] || {
  echo "probe.sh: --host, --account, --source, --destination-root and --destination are needed" >&2
  exit 78
}

say() { # KEY VALUE: what is not printable becomes a blank, so that a value is one line
  printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr -s '\000-\037\177' ' ' | head -c 1000)"
}

yes_or_no() { # COMMAND...
  if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi
}

first_line() { # COMMAND...
  "$@" 2>&1 </dev/null | head -n 1
}

# --- this host ----------------------------------------------------------------------------------------------

say node "$(uname -n)"
say rsync "$(command -v rsync >/dev/null && first_line rsync --version)"
say ssh "$(command -v ssh >/dev/null && first_line ssh -V)"
say bash "$BASH_VERSION"
missing=()
for tool in awk find flock setsid sort uniq sed shuf sha256sum base64 xargs pgrep readlink stat dd; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
say tools_missing "${missing[*]:-}"

# --- the destination ----------------------------------------------------------------------------------------

# A share that is not mounted leaves its empty mount point behind, on the file system of the folder above it.
# An empty root on the root file system is taken for that; a root with anything in it is what the group uses.
is_mounted() {
  [[ $(stat -c %d -- "$root") != "$(stat -c %d /)" ]] || [[ -n $(find "$root" -mindepth 1 -maxdepth 1 -print -quit) ]]
}

say root_exists "$(yes_or_no test -d "$root")"
if [[ -d $root ]]; then
  say root_mounted "$(yes_or_no is_mounted)"
  # The destination may be a mount of its own: look at what of it is there.
  there=$destination
  while [[ ! -d $there ]]; do there=$(dirname -- "$there"); done
  case $there/ in "$root"/*) ;; *) there=$root ;; esac
  say file_system "$(stat -f -c %T -- "$there")"
  say bytes_free "$(df -P -B1 -- "$there" 2>/dev/null | awk 'NR == 2 { print $4 }')"
  # "-" or 0 of 0 where inodes are not counted, as on btrfs and CIFS.
  say inodes_free "$(df -P -i -- "$there" 2>/dev/null | awk 'NR == 2 && $2 > 0 { print $4 }')"
  trial=$there/.beamferry-probe.$$
  writable=no
  if reason=$(mkdir -- "$trial" 2>&1); then
    trap 'rm -rf -- "$trial"' EXIT
    if reason=$( (umask 022 && echo x >"$trial/file" && mv -- "$trial/file" "$trial/renamed") 2>&1); then
      writable=yes
      chmod 640 -- "$trial/renamed" 2>/dev/null
      say keeps_modes "$(yes_or_no test "$(stat -c %a -- "$trial/renamed")" = 640)"
      touch -d @1000000001 -- "$trial/renamed" 2>/dev/null
      say keeps_times "$(yes_or_no test "$(stat -c %Y -- "$trial/renamed")" = 1000000001)"
      ln -s renamed "$trial/link" 2>/dev/null
      say keeps_links "$(yes_or_no test -L "$trial/link")"
      : 2>/dev/null >"$trial/a:b"
      say keeps_colons "$(yes_or_no test -e "$trial/a:b")"
      : >"$trial/case"
      say keeps_case "$(yes_or_no test ! -e "$trial/CASE")"
    fi
    rm -rf -- "$trial"
    trap - EXIT
  fi
  say writable "$writable"
  [[ $writable == yes ]] || say writable_reason "$reason"
fi

# --- the facility -------------------------------------------------------------------------------------------

# The far log-in shell is unknown and may print text: our own lines come behind a mark, from a sh of our own.
quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

far_script() {
  cat <<SCRIPT
LC_ALL=C; export LC_ALL
echo beamferry-begin
s=$(quoted "$source")
t() { if "\$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
echo "source_exists=\$(t test -e "\$s")"
echo "source_is_folder=\$(t test -d "\$s")"
echo "source_readable=\$(t ls "\$s/.")"
echo "far_rsync=\$(command -v rsync >/dev/null 2>&1 && rsync --version 2>/dev/null | head -n 1)"
echo "far_find=\$(t find / -maxdepth 0 -printf x)"
echo "far_dd=\$(t dd if=/dev/null iflag=skip_bytes,count_bytes,fullblock count=1)"
echo "far_sha256sum=\$(t sha256sum /dev/null)"
echo "far_time=\$(date +%s)"
echo beamferry-end
SCRIPT
}

if command -v ssh >/dev/null; then
  read -r -a far <<<"$words"
  errors=$(mktemp)
  trap 'rm -f -- "$errors"' EXIT
  code=0
  answer=$(far_script | "${far[@]}" -l "$account" -- "$host" exec sh -s 2>"$errors") || code=$?
  say far_exit "$code"
  # The end of it: ssh's reason is its last line, and the warning of a changed host key alone is longer than a value.
  say far_errors "$(grep -v '^Warning: Permanently added' "$errors" | tail -n 12 | tail -c 900)"
  say far_noise "$(printf '%s\n' "$answer" | sed '/^beamferry-begin$/,$d' | head -n 3)"
  printf '%s\n' "$answer" | sed -n '/^beamferry-begin$/,/^beamferry-end$/p' | grep -E '^(source|far)_[a-z0-9_]+=' |
    tr -d '\000-\011\013-\037\177'
  say near_time "$(date +%s)"
fi
echo end=yes
