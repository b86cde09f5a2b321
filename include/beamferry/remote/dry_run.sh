#!/usr/bin/env bash
# Asks rsync what is to do without doing it.
#
#   dry_run.sh --work W --destination-root R --destination D --stall SECONDS -- rsync ARGUMENT... -- SOURCE DESTINATION
#
# Leaves W/todo: a line for each regular file to fetch, its size, a space, its name with what is not printable
# as \#ooo, in rsync's order, and W/others, the same of folders and links to make. The text of --stats goes to
# $BEAMFERRY_JOB/stats for others to read. Ends with 72 if the destination cannot hold a name: W/names_refused has a line
# for each of them.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/ssh.sh
. "$here/ssh.sh"
begin dry_run rsync
require rsync awk readlink pgrep

work='' root='' destination=''
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --destination-root) root=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --) shift && break ;;
    *) refuse "dry_run.sh: unknown argument $1" ;;
  esac
done
[[ -n $work && -n $root && -n $destination && $# -ge 4 ]] ||
  refuse "dry_run.sh: --work, --destination-root, --destination and rsync's command are needed"
[[ $stall =~ ^[0-9]+$ ]] || refuse "dry_run.sh: --stall must be a number"

work=$(readlink -m -- "$work")
mkdir -p "$work"
# A list of an earlier run must never be taken for this one's, nor its progress.
rm -rf "$work/todo" "$work/todo.totals" "$work/todo.count" "$work/live" "$work/names_refused"

resolve_destination
lead '' "${@:1:$#-1}" "$destination/"
command=("${led[@]}")

# ACCOUNT@HOST:PATH/
source=${*: -2:1}
source=${source#*@}
suspect_unflushed "$source"
# What is known to differ is to be fetched, whatever its size and time say: rsync itself tells what of it could be, if it
# took no file for equal. The comparison finds what a damaged memory held.
mark_again() {
  local code=0
  : >"$work/remembered"
  ask_agent recall source "$source" destination "$destination" output "$work/remembered" >/dev/null || code=$?
  ((code == 0 || code == 65)) || finish "$code"
  [[ -s $work/remembered ]] || return 0
  code=0
  heard "$errors" "${command[0]}" -n -i -I --no-h --out-format='@ %i %l %n' "${command[@]:1}" >"$work/fetchable" || code=$?
  check_stall
  ((code == 0)) || finish "$code"
  ask_agent mark source "$source" destination "$destination" lines "$work/fetchable" >/dev/null || finish $?
  rm -f "$work/fetchable"
}
tick() {
  local files=0 bytes=0
  [[ ! -s $work/todo.count ]] || read -r files bytes <"$work/todo.count"
  report "$bytes" "$bytes" "$files" "$files"
}
start_ticker
mark_again
listing_began=$(now)

# The mark before each line tells the files from whatever else rsync says. LC_ALL=C makes rsync escape
# all that is not printable ASCII, so a line is a name whatever the name holds.
(
  codes=(0 0)
  # shellcheck disable=SC2094  # both add to the end
  heard "$errors" "${command[0]}" -n -i --stats --no-h --out-format='@ %i %l %n' "${command[@]:1}" |
    awk -v todo="$work/todo.new" -v others="$work/others" -v count="$work/todo.count" -v stats="$BEAMFERRY_JOB/stats" \
      -v notes="$BEAMFERRY_JOB/notes" -f "$here/todo.awk" 2>>"$errors" || codes=("${PIPESTATUS[@]}")
  # Only a full or broken disk stops awk, and that stops rsync, whose own code then says nothing of it.
  ((codes[1] == 0)) || exit 74
  ((codes[0] == 0)) || exit "${codes[0]}"
) &
code=0
wait $! || code=$?
stop_ticker
check_stall
# Nothing is fetched that would get lost: what is new must have a name that the destination can hold.
if ((code == 0)) && [[ -s $work/todo.new || -s $work/others ]]; then
  ask_agent names destination "$destination" root "$root" todo "$work/todo.new" others "$work/others" \
    output "$work/names_refused" >/dev/null || code=$?
fi
if ((code == 0)); then
  mv "$work/todo.count" "$work/todo.totals"
  mv "$work/todo.new" "$work/todo"
  read -r files bytes <"$work/todo.totals"
  report "$bytes" "$bytes" "$files" "$files"
  echo "The dry run found $files files, $bytes bytes to fetch."
else
  echo "The dry run ended with code $code."
fi
finish "$code" began "$listing_began"
