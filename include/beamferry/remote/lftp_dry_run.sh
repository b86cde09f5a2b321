#!/usr/bin/env bash
# Lists the facility's folders and finds what the destination lacks; fetches nothing.
#
#   lftp_dry_run.sh --work W --streams N --destination-root R --destination D --modify-window SECONDS
#                   --stall SECONDS [--exclude PATH]... [--folder NAME]... [--tokens yes]
#                   [--group-access read|write --group GID|own] FACILITY'S ARGUMENTS (see lftp.sh)
#
# Leaves W/source.census (all that was listed), W/damaged (paths whose content differed when it was compared), W/closed
# (records of what is there and does not let the group do what --group-access says), W/todo
# (records PATH//f//SIZE//MTIME// of the files to fetch), W/todo.totals and W/modify_window. Ends with 72 if the
# destination cannot hold a name: W/names_refused has a line for each of them. $BEAMFERRY_JOB/stats has a line "total" and
# one for each folder, "." being the files in the beamtime's own folder: KIND FILES BYTES FILES-TO-FETCH BYTES-TO-FETCH
# FOLDERS-TO-MAKE-AND-ENTRIES-TO-OPEN NAME.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/lftp.sh
. "$here/lftp.sh"
# shellcheck source=include/beamferry/remote/census.sh
. "$here/census.sh"
# shellcheck source=include/beamferry/remote/listing.sh
. "$here/listing.sh"
begin dry_run 'lftp|sftp|find'
require lftp ssh sftp awk sort find readlink pgrep

work='' streams=1 root='' destination='' window=0 group_access='' group=''
exclude=() folders=()
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --destination-root) root=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --modify-window) window=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --exclude) exclude+=("${2:-}") && shift 2 ;;
    --folder) folders+=("${2:-}") && shift 2 ;;
    --tokens) list_tokens=${2:-} && shift 2 ;;
    --group-access) group_access=${2:-} && shift 2 ;;
    --group) group=${2:-} && shift 2 ;;
    *) far_argument "$1" "${2:-}" || refuse "lftp_dry_run.sh: unknown argument $1" && shift 2 ;;
  esac
done
[[ -n $work && -n $root && -n $destination ]] ||
  refuse "lftp_dry_run.sh: --work, --destination-root and --destination are needed"
[[ $streams =~ ^[1-9][0-9]?$ && $window$stall =~ ^[0-9]+$ ]] ||
  refuse "lftp_dry_run.sh: --streams, --modify-window and --stall must be numbers"
[[ "$group_access $group" =~ ^(( )|((read|write) ([0-9]+|own)))$ ]] ||
  refuse "lftp_dry_run.sh: --group-access must be read or write, --group a number or own"
far_ready

work=$(readlink -m -- "$work")
resolve_destination
scratch=$work/dry_run
rm -rf "$scratch"
mkdir -p "$scratch"
# A list of an earlier run must never be taken for this one's, nor its progress.
rm -f "$work"/{todo,todo.totals,source.census,modify_window,placed,names_refused,closed}

tick() {
  local files
  files=$(listed_entries)
  report 0 0 "$files" "$files"
}
suspect_unflushed "$far_host:$far_root"
# What is known to differ is to be fetched, whatever its size and time say. The comparison finds what a damaged memory
# held.
: >"$work/damaged"
code=0
ask_agent recall source "$far_host:$far_root" destination "$destination" output "$work/damaged" >/dev/null || code=$?
((code == 0 || code == 65)) || finish "$code"
listing_began=$(now)
start_ticker

list_source "$scratch/source.census"
((modify_window > window)) || modify_window=$window

# Prints find's words for what is as the entry wants it, or is not this account's alone to change.
well() { # TYPE
  local bits=4
  [[ $group_access == read ]] || bits=6
  case $1 in
    f) printf '! -uid %d -o -links +1 -o -perm -00%d0 ' "$EUID" "$bits" ;;
    d) printf '! -uid %d -o -perm -%d0%d0 ' "$EUID" "$([[ $group == own ]] && echo 0 || echo 2)" "$((bits + 1))" ;;
  esac
  [[ $group_access == write ]] || printf '! -perm -0020 '
  [[ $group == own ]] || printf -- '-gid %d ' "$group"
}

: >"$scratch/destination"
: >"$scratch/closed"
if [[ -d $destination ]]; then
  census_script "$destination" /dev/null "$scratch/closed" "${group_access:+$(well f)}" "${group_access:+$(well d)}" \
    >"$scratch/destination.sh"
  sh -s <"$scratch/destination.sh" >"$scratch/destination.raw" 2>>"$errors" || finish 23
  sorted -o "$scratch/destination" "$scratch/destination.raw" 2>>"$errors" || finish 11
  sorted -o "$scratch/closed" "$scratch/closed" 2>>"$errors" || finish 11
  rm -f "$scratch/destination.raw"
fi

awk -v damaged="$work/damaged" -v destination="$scratch/destination" -v window="$modify_window" -v todo="$scratch/todo" \
  -v closed="$scratch/closed" -v open="$scratch/open" -v stats="$scratch/stats" -v totals="$scratch/totals" -f "$here/missing.awk" "$scratch/source.census" 2>>"$errors" ||
  finish 11
read -r files_total bytes_total <"$scratch/totals"
if [[ -s $scratch/todo ]]; then
  ask_agent names destination "$destination" root "$root" records "$scratch/source.census" \
    output "$work/names_refused" >/dev/null || finish $?
fi
echo "$modify_window" | put "$work/modify_window"
put "$BEAMFERRY_JOB/stats" <"$scratch/stats"
mv -f "$scratch/source.census" "$work/source.census"
mv -f "$scratch/open" "$work/closed"
mv -f "$scratch/totals" "$work/todo.totals"
mv -f "$scratch/todo" "$work/todo"
stop_ticker
report "$bytes_total" "$bytes_total" "$files_total" "$files_total"
rm -rf "$scratch"
echo "The listing found $files_total files, $bytes_total bytes to fetch."
if ((round_folders)); then
  echo "$round_folders folders have exactly 1,000 entries: two listings agree, yet servers cut theirs at such numbers."
fi
finish 0 modify_window "$modify_window" round_folders "$round_folders" began "$listing_began"
