#!/usr/bin/env bash
# Looks at the shared ssh session that a person opened. It talks with the ssh on this host alone, never with the
# facility: it may be asked as often as one likes.
#
#   login.sh --ssh "ssh -o ControlPath=... ..." --account A --host H [--lost yes]
#
# Prints KEY=VALUE lines: node, open (yes or no), reason (ssh's words, where it is not open), age (seconds, where it is),
# lives (seconds that sessions lived which a job lost, the last five), and "end=yes" last. Makes the sockets' folder.
# --lost: a job used the session until just now, so that its life can be told.
set -euo pipefail
export LC_ALL=C

readonly LIVES=5

account='' host='' words='' lost=no
while (($#)); do
  case $1 in
    --account) account=${2:-} && shift 2 ;;
    --host) host=${2:-} && shift 2 ;;
    --ssh) words=${2:-} && shift 2 ;;
    --lost) lost=${2:-} && shift 2 ;;
    *) echo "login.sh: unknown argument $1" >&2 && exit 78 ;;
  esac
done
path=${words##*ControlPath=} path=${path%% *}
[[ -n $account && -n $host && $words == *ControlPath=* && ${path##*/} == ?* ]] || {
  echo "login.sh: --ssh with a ControlPath, --account and --host are needed" >&2
  exit 78
}

here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/ssh.sh
. "$here/ssh.sh"
umask 077
node=$(uname -n)
# As ssh makes it of %L, beside the sockets.
name=${path##*/} name=${name//%L/${node%%.*}}
folder=$HOME/.beamferry/s
mkdir -p -- "$folder"
opened=$folder/$name.opened lives=$folder/$name.lives

say() { # KEY VALUE: what is not printable becomes a blank, so that a value is one line
  local value
  value=$(printf '%s' "$2" | tr -s '\000-\037\177' ' ')
  printf '%s=%s\n' "$1" "${value:0:300}"
}

put() { # FILE: takes stdin, whole or not at all; two at once have two names
  local new=$1.$BASHPID-$RANDOM.new
  cat >"$new" && mv -f "$new" "$1"
}

remember_life() {
  local from life
  [[ -s $opened ]] || return 0
  read -r from <"$opened"
  rm -f -- "$opened"
  [[ $lost == yes && $from =~ ^[0-9]+$ ]] || return 0
  life=$(($(date +%s) - from))
  ((life > 0)) || return 0
  { cat "$lives" 2>/dev/null || :; echo "$life"; } | tail -n "$LIVES" | put "$lives"
}

read -r -a ssh <<<"$(known_words "$words")"
code=0
# A master whose connection hangs answers all the same; one that is stopped must not keep us.
answer=$(timeout 10 "${ssh[@]}" -O check -l "$account" -- "$host" 2>&1 </dev/null) || code=$?
say node "$node"
if ((code == 0)) && [[ $answer =~ pid=([0-9]+) ]]; then
  age=$(ps -o etimes= -p "${BASH_REMATCH[1]}" | tr -d ' ')
  echo $(($(date +%s) - age)) | put "$opened"
  say open yes
  say reason ''
  say age "$age"
else
  remember_life
  say open no
  say reason "$answer"
  say age ''
fi
say lives "$(cat "$lives" 2>/dev/null || :)"
echo end=yes
