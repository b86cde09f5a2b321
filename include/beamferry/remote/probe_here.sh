# shellcheck shell=bash
# shellcheck disable=SC2154  # the sourcing script sets root and destination
# What every probe looks at on RDS-SSH: its tools, and the destination. To be sourced; prints KEY=VALUE lines. It
# changes nothing but a folder of its own below the destination root, which it removes again.

# shellcheck source=include/beamferry/remote/request.sh
. "$here/request.sh"

say() { # KEY VALUE: what is not printable becomes a blank, so that a value is one line
  local value
  value=$(printf '%s' "$2" | tr -s '\000-\037\177' ' ')
  printf '%s=%s\n' "$1" "${value:0:1000}"
}

# What a tool said, in the end of which the reason stands: a tab stands between its lines.
say_lines() { # KEY FILE
  printf '%s=%s\n' "$1" "$(tail -n 15 "$2" | cut -c 1-250 | tr -d '\r' | tr -s '\000-\011\013-\037\177' ' ' | tr '\n' '\t')"
}

yes_or_no() { # COMMAND...
  if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi
}

first_line() { # COMMAND...
  "$@" 2>&1 </dev/null | sed -n 1p
}

probe_tools() { # TOOL...
  say node "$(uname -n)"
  say rsync "$(command -v rsync >/dev/null && first_line rsync --version)"
  say ssh "$(command -v ssh >/dev/null && first_line ssh -V)"
  say bash "$BASH_VERSION"
  local tool
  local -a missing=()
  for tool in "$@" awk find flock sort uniq sed shuf sha256sum base64 xargs pgrep readlink stat; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  # shellcheck disable=SC2154  # set by the script that sources this
  sh "$here/agent.sh" python >/dev/null 2>&1 || missing+=(python3)
  say tools_missing "${missing[*]:-}"
}

# A share that is not mounted leaves its empty mount point behind, on the file system of the folder above it.
# An empty root on the root file system is taken for that; a root with anything in it is what the group uses.
is_mounted() {
  [[ $(stat -c %d -- "$root") != "$(stat -c %d /)" ]] || [[ -n $(find "$root" -mindepth 1 -maxdepth 1 -print -quit) ]]
}

# The group that a folder gives to what is put there: that of the nearest one with the setgid bit, as folders below it
# may have lost theirs. A folder of somebody else does not count, as its owner could choose any group.
group_given() { # FOLDER
  local at=$1
  while :; do
    if [[ -g $at && $(stat -L -c %u -- "$at") =~ ^(0|$EUID)$ ]]; then
      stat -L -c %g -- "$at"
      return
    fi
    [[ $at == "$root"/* ]] || return 0
    at=$(dirname -- "$at")
  done
}

# The first folder, from the destination root on, that the group of the root cannot look into: MODE PATH.
closed_folder() { # FOLDER
  local at=$1 found='' mode group root_group
  root_group=$(stat -L -c %g -- "$root")
  while :; do
    read -r mode group < <(stat -L -c '%a %g' -- "$at")
    [[ $group == "$root_group" ]] && mode=$((8#$mode >> 3 & 7)) || mode=$((8#$mode & 7))
    (((mode & 5) == 5)) || found=$at
    [[ $at == "$root"/* ]] || break
    at=$(dirname -- "$at")
  done
  [[ -z $found ]] || stat -L -c '%a %n' -- "$found"
}

probe_destination() {
  local there writable reason
  say root_exists "$(yes_or_no test -d "$root")"
  [[ -d $root ]] || return 0
  say root_mounted "$(yes_or_no is_mounted)"
  # Else nobody would find it out before the transfer.
  reason=$(request destination "$destination" | sh "$here/agent.sh" resolve 2>&1 >/dev/null) || {
    (($? != 70)) || { say destination_refused "${reason#agent: }" && return 0; }
  }
  # The destination may be a mount of its own: look at what of it is there.
  there=${destination/\/.\//\/}
  while [[ ! -d $there ]]; do there=$(dirname -- "$there"); done
  case $there/ in "$root"/*) ;; *) there=$root ;; esac
  say share_group "$(group_given "$there")"
  say root_group "$(stat -L -c %G -- "$root")"
  say closed_folder "$(closed_folder "$there")"
  say file_system "$(stat -f -c %T -- "$there")"
  say bytes_free "$(df -P -B1 -- "$there" 2>/dev/null | awk 'NR == 2 { print $4 }')"
  # "-" or 0 of 0 where inodes are not counted, as on btrfs and CIFS.
  say inodes_free "$(df -P -i -- "$there" 2>/dev/null | awk 'NR == 2 && $2 > 0 { print $4 }')"
  trial=$there/.beamferry-probe.$$
  writable=no
  if reason=$(mkdir -- "$trial" 2>&1); then
    trap 'rm -rf -- "${trial:-}"' EXIT
    if reason=$( (umask 022 && echo x >"$trial/file" && mv -- "$trial/file" "$trial/renamed") 2>&1); then
      writable=yes
      say new_mode "$(stat -c %a -- "$trial/renamed")"
      say new_group "$(stat -c %G -- "$trial/renamed")"
      chmod 640 -- "$trial/renamed" 2>/dev/null
      say keeps_modes "$(yes_or_no test "$(stat -c %a -- "$trial/renamed")" = 640)"
      touch -d @1000000001 -- "$trial/renamed" 2>/dev/null
      say keeps_times "$(yes_or_no test "$(stat -c %Y -- "$trial/renamed")" = 1000000001)"
      ln -s renamed "$trial/link" 2>/dev/null
      say keeps_links "$(yes_or_no test -L "$trial/link")"
    fi
    rm -rf -- "$trial"
    trap - EXIT
  fi
  say writable "$writable"
  [[ $writable == yes ]] || say writable_reason "$reason"
}
