#!/usr/bin/env bash
# Records what one version of rsync prints, by provoking each case for real. Run as root, once per version:
#
#   record.sh RSYNC OUT        e.g. record.sh /usr/bin/rsync tests/data/rsync/3.5.0
#
# CASE.stats holds stdout, CASE.CODE.stderr what was complained of with exit code CODE. The far
# side is an rsync of the same version behind a stand-in for ssh; an ordinary account's rights bind both ends.
set -euo pipefail
export LC_ALL=C
rsync=$(readlink -f -- "$1")
out=$(readlink -m -- "$2")
[[ -n ${RECORD_INSIDE:-} ]] || RECORD_INSIDE=yes exec unshare --mount "$0" "$rsync" "$out"

base=$(mktemp -d /var/tmp/record.XXXXXX)
trap 'umount -q "$base"/mnt/* || :; rm -rf -- "$base"' EXIT
chmod 755 "$base"
mkdir -p "$out" "$base/bin" "$base/empty" "$base/dls/mg25682-2" "$base/mnt/rds"
rm -f "$out"/*
cp "$rsync" "$base/bin/rsync"
host=mbcx9cd4@ssh.diamond.ac.uk
source=$base/dls/mg25682-2
rds=$base/mnt/rds
chown nobody "$rds"

# The stand-in for ssh: drops "-l ACCOUNT HOST" and runs the rest here, as the log-in shell would.
cat >"$base/bin/ssh" <<SSH
#!/bin/sh
shift 3
export PATH=\${FAR_PATH-$base/bin:/usr/bin:/bin}
[ -z "\${FAR_NOISE-}" ] || echo "\$FAR_NOISE"
# Only this process: what is executed below keeps its number.
[ -z "\${FAR_KILLED-}" ] || (sleep 1; kill -KILL \$\$) </dev/null >/dev/null 2>&1 &
[ -z "\${FAR_HANGS-}" ] || exec sleep 4
exec \${FAR_SHELL:-/bin/bash} -c "\$*"
SSH
chmod 755 "$base/bin/ssh"
FLAGS=(-rlpt --no-h '--chmod=Du+rwx,Fu+rw' --partial-dir=.beamferry-partial -e "$base/bin/ssh")

limit=()
run() { # as an ordinary account
  (cd / && "${limit[@]}" setpriv --reuid=nobody --regid=nogroup --clear-groups "$base/bin/rsync" "$@")
}

plain() { sed "s#$base##g"; }

complaint() { # CASE ARGUMENT...
  local name=$1 code=0
  shift
  run "${FLAGS[@]}" "$@" 2>"$base/stderr" >/dev/null || code=$?
  plain <"$base/stderr" >"$out/$name.$code.stderr"
}

fresh() {
  rm -rf "${source:?}" "${rds:?}"/*
  rm -rf "$rds/.beamferry-partial"
  mkdir -p "$source/raw" "$source/processed"
  head -c 300000 /dev/urandom >"$source/raw/frame_0001.cbf"
  echo one >"$source/raw/small"
  : >"$source/raw/nothing"
  ln -s raw/small "$source/link"
  echo two >"$source/processed/two"
}

# --- totals -------------------------------------------------------------------------------------------------

fresh
run "${FLAGS[@]}" -n --stats "$host:$source/" "$rds/visit/" >"$out/dry_run.stats"
run "${FLAGS[@]}" --stats "$host:$source/" "$rds/visit/" >"$out/first.stats"
run "${FLAGS[@]}" --stats "$host:$source/" "$rds/visit/" >"$out/again.stats"
run "${FLAGS[@]}" -n --stats "$host:$base/empty/" "$rds/none/" >"$out/empty_source.stats"
truncate -s 87034154221 "$source/raw/large"
run "${FLAGS[@]}" -n --stats "$host:$source/" "$rds/visit/" >"$out/large.stats"
run -rlptn --stats -e "$base/bin/ssh" "$host:$source/" "$rds/visit/" >"$out/commas.unreadable"
run -rlptnh --stats -e "$base/bin/ssh" "$host:$source/" "$rds/visit/" >"$out/units.unreadable"

# --- complaints ---------------------------------------------------------------------------------------------

from=$host:$source/ to=$rds/visit/
odd=$source/raw/odd
fresh
mkdir "$odd"
cd "$odd"
touch -- 'a "quoted" name' $'new\nline' 'caf'$'\xc3\xa9' $'latin\xe9' '-dash' 'back\#134slash' \
  'failed: No space left on device (28)' 'x": Permission denied (13)' $'esc\e[31m'
chmod 000 -- *
cd /
mkdir "$source/closed" && chmod 700 "$source/closed"
# A folder that can be listed, but not entered.
mkdir "$source/listed" && touch "$source/listed/inside" && chmod 744 "$source/listed"
complaint files_unreadable "$from" "$to"
fresh
for number in {1..45}; do touch "$source/raw/frame_$number.tif" && chmod 0 "$source/raw/frame_$number.tif"; done
complaint many_unreadable "$from" "$to"
fresh
chmod 700 "$source"
complaint source_unreadable "$from" "$to"
rm -rf "$source"
complaint source_missing "$from" "$to"
fresh
head -c 3000000 /dev/urandom >"$source/a_large"
(sleep 1.2 && rm -f "$source/raw/small" "$source/raw/nothing" "$source/processed/two") &
complaint source_changing --bwlimit=1000 "$from" "$to"
wait
fresh
FAR_PATH=/nowhere complaint far_no_rsync_bash "$from" "$to"
FAR_PATH=/nowhere FAR_SHELL=/bin/dash complaint far_no_rsync_dash "$from" "$to"
FAR_NOISE='*** Scheduled maintenance on Tuesday ***' complaint noise "$from" "$to"
head -c 3000000 /dev/urandom >"$source/a_large"
FAR_KILLED=yes complaint far_killed --bwlimit=1000 "$from" "$to"
FAR_HANGS=yes complaint time_out --timeout=2 "$from" "$to"
limit=(timeout --preserve-status --signal=TERM 1)
complaint near_terminated --bwlimit=1000 "$from" "$to"
limit=()
complaint unknown_option --no-such-option "$from" "$to"

fresh
mkdir "$rds/closed"
complaint destination_closed "$from" "$rds/closed/"
complaint destination_closed_below "$from" "$rds/closed/visit/"
mkdir "$rds/partly" && chown nobody "$rds/partly" && mkdir "$rds/partly/raw"
complaint destination_partly_closed "$from" "$rds/partly/"
mkdir -p "$base/mnt/elsewhere" "$base/mnt/own"
chown -h 4242:4242 "$base/mnt/elsewhere"
ln -s ../elsewhere "$base/mnt/own/visit" && chown -h 4242:4242 "$base/mnt/own/visit"
complaint destination_link "$from" "$base/mnt/own/visit/"

mount -t tmpfs -o mode=0777,size=100k tmpfs "$rds"
complaint disk_full "$from" "$to"
umount "$rds"
mount -t tmpfs -o mode=0777,size=10m,nr_inodes=5 tmpfs "$rds"
complaint inodes_full "$from" "$to"
mount -o remount,ro "$rds"
complaint read_only "$from" "$to"
umount "$rds"
