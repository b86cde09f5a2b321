#!/usr/bin/env bash
# Fetches what W/todo lists of one folder, over several connections of lftp.
#
#   lftp_transfer.sh --work W --folder NAME --streams N --limit BYTES-PER-SECOND --stall SECONDS --destination D
#                    [--group-access read|write --group GID|own] FACILITY'S ARGUMENTS (see lftp.sh)
#
# NAME "." stands for the files that lie beside the folders; a limit of 0 is none. Each connection is an lftp of its
# own with its share of the files. A file arrives under a name made of its path, size and time, in a folder that
# nothing lists, and is renamed into its place once it is whole and as it was listed: what a kill leaves behind is
# continued by the next start, and never with bytes of another version. lftp's mirror is not used: it lists once more,
# copies modes that lock us out, and continues files that have changed.
#
# Appends to W/placed a line "BYTES FILES" whenever files were put into their places.
#
# Exit codes: 11 disk full or not writable, or a place is taken by something else, 23 some files may not be read, 24
# some are gone or have changed, 67 the log-in failed, 68 the connection broke again and again, 75 nothing moved for
# --stall seconds.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/lftp.sh
. "$here/lftp.sh"
# shellcheck source=include/beamferry/remote/connections.sh
. "$here/connections.sh"
# shellcheck source=include/beamferry/remote/placing.sh
. "$here/placing.sh"
begin transfer lftp
require lftp ssh awk find sort xargs stat touch pgrep readlink

# MiB that a trial of the destination writes at most.
readonly MOST_TRIED=16384

work='' folder='' streams=1 limit=0 destination='' group_access='' group=''
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --folder) folder=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --limit) limit=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --group-access) group_access=${2:-} && shift 2 ;;
    --group) group=${2:-} && shift 2 ;;
    *) far_argument "$1" "${2:-}" || refuse "lftp_transfer.sh: unknown argument $1" && shift 2 ;;
  esac
done
[[ -n $work && -n $folder && -n $destination ]] || refuse "lftp_transfer.sh: --work, --folder and --destination are needed"
[[ $streams =~ ^[1-9][0-9]?$ && $limit =~ ^[0-9]+$ && $stall =~ ^[0-9]+$ ]] ||
  refuse "lftp_transfer.sh: --streams, --limit and --stall must be numbers"
[[ "$group_access $group" =~ ^(( )|((read|write) ([0-9]+|own)))$ ]] ||
  refuse "lftp_transfer.sh: --group-access must be read or write, --group a number or own"
[[ -s $work/todo.totals && -s $work/modify_window && -e $work/todo && -e $work/source.census ]] ||
  lists_are_gone "$work"
far_ready

work=$(readlink -m -- "$work")
live=$work/lftp
rm -rf "$live"
mkdir -p "$live"
read -r files_total bytes_total <"$work/todo.totals"
read -r window <"$work/modify_window"
# Each folder has its own: when it is whole, nothing in there is of use.
staging=.beamferry-partial/.beamferry-lftp/$(printf '%s' "$folder" | sha256sum | cut -c1-16)
[[ $group_access != write ]] || data_umask=002
resolve_destination
# First, as new folders and files take their group from those above.
if [[ -s $work/closed ]]; then
  ask_agent open destination "$destination" list "$work/closed" folder "$folder" access "$group_access" group "$group" \
    >/dev/null || finish $?
fi
prepare_destination "$staging"
staging=$destination/$staging
partial=$destination/.beamferry-partial
note_unflushed

resumed=0 refused=0 since=0 before_bytes=0 before_files=0
read -r before_bytes before_files < <(placed_so_far)

# --- lists ------------------------------------------------------------------------------------------------

# This folder's records of a census or a to-do list.
of_folder() { # LIST
  # awk would read a backslash in the value of -v.
  folder="$folder" awk '
    BEGIN { RS = "\0"; folder = ENVIRON["folder"] }
    {
      path = substr($0, 1, index($0, "//") - 1)
      slash = index(path, "/")
      if (folder == "." ? !slash && $0 !~ /^[^\/]*\/\/d\/\// : path == folder || (slash && substr(path, 1, slash - 1) == folder))
        printf "%s%c", $0, 0
    }' "$1"
}

make_folders() {
  of_folder "$work/source.census" | awk '
    BEGIN { RS = "\0" }
    { at = index($0, "//"); if (substr($0, at + 2, 1) == "d") printf "./%s%c", substr($0, 1, at - 1), 0 }' >"$live/folders"
  (cd -- "$destination" && as_data xargs -0 -r mkdir -p -- <"$live/folders") 2>>"$errors" || finish 11
  # mkdir is content with a link to a folder; what is written there would leave the destination.
  # shellcheck disable=SC2016
  (cd -- "$destination" && xargs -0 -r sh -c '
    find "$@" -maxdepth 0 -type l -printf "%p: a link stands where a folder has to come\n"' sh <"$live/folders") \
    >"$live/links" 2>>"$errors" || finish 11
  if [[ -s $live/links ]]; then
    cat "$live/links" >>"$errors"
    finish 11
  fi
}

# Lines "SIZE TIME ./PATH" of the to-do list's files that are in their places; of others stat complains, and they lack.
list_there() {
  awk 'BEGIN { RS = "\0" } { printf "./%s%c", substr($0, 1, index($0, "//") - 1), 0 }' "$live/todo" |
    (cd -- "$destination" && xargs -0 -r stat -c '%s %Y %n' -- 2>/dev/null || :) >"$live/there"
}

# How many files of the to-do list are not in their places, by their size.
count_unplaced() {
  list_there
  awk -v there="$live/there" '
    BEGIN {
      while ((getline line < there) > 0) { split(line, field, " "); size[substr(line, length(field[1]) + length(field[2]) + 5)] = field[1] }
      RS = "\0"
    }
    {
      at = index($0, "//")
      path = substr($0, 1, at - 1)
      split(substr($0, at + 2), field, "//")
      if (!(path in size) || size[path] != field[2]) lacking++
    }
    END { print lacking + 0 }' "$live/todo"
}

# Lines "ID SIZE TIME PATH" of what is still to come: not what an earlier start has put in its place. The ID is made
# of two sums over the path, and of size and time: another version of a file never has the same.
list_pending() {
  of_folder "$work/todo" >"$live/todo"
  list_there
  awk -v there="$live/there" -v damaged="$work/damaged" -v window="$window" '
    BEGIN {
      while ((getline line < there) > 0) {
        split(line, field, " ")
        name = substr(line, length(field[1]) + length(field[2]) + 5)
        size_there[name] = field[1]
        time_there[name] = field[2]
      }
      RS = "\0"
      # Fetched again whatever size and time say, see lftp_dry_run.sh.
      while ((getline path < damaged) > 0) delete size_there[path]
      for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
    }
    {
      at = index($0, "//")
      path = substr($0, 1, at - 1)
      split(substr($0, at + 2), field, "//")
      if ((path in size_there) && size_there[path] == field[2] && near(time_there[path], field[3])) next
      a = 7; b = 11
      for (i = 1; i < at; i++) {
        c = code[substr(path, i, 1)]
        a = (a * 257 + c) % 4294967291
        b = (b * 65599 + c) % 4294967279
      }
      printf "%.0f-%.0f-%s-%s %s %s %s\n", a, b, field[2], field[3], field[2], field[3], path
    }
    function near(x, y) { return x - y <= window && y - x <= window }' "$live/todo" >"$live/pending"
}

# What an earlier start has left of versions that are not wanted any more can be of no use.
sweep_staging() {
  find "$staging" -type f -printf '%f\n' | awk -v pending="$live/pending" '
    BEGIN { while ((getline line < pending) > 0) { split(line, field, " "); wanted[field[1]] = 1 } }
    !($0 in wanted)' | (cd -- "$staging" && xargs -d '\n' -r rm -f --) 2>>"$errors" || finish 11
  # By the clock of the destination: what has a time from here on has one that no server has told.
  touch -- "$staging" 2>>"$errors" || finish 11
  since=$(stat -c %Y -- "$staging")
  find "$staging" -type f -exec touch -- {} + 2>>"$errors" || finish 11
}

staged_bytes() {
  find "$staging" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# --- progress ---------------------------------------------------------------------------------------------

tick() {
  local bytes files
  read -r bytes files < <(placed_so_far)
  report $((bytes + $(staged_bytes))) "$bytes_total" "$files" "$files_total"
}

end_with() { # CODE
  local bytes files changed
  stop_placing
  stop_ticker
  changed=$(wc -l <"$live/changed")
  cat "$live/changed" >>"$errors"
  read -r bytes files < <(placed_so_far)
  report "$bytes" "$bytes_total" "$files" "$files_total"
  finish "$1" bytes $((bytes - before_bytes)) files $((files - before_files)) streams "$streams" passes "$passes" lost "$lost" \
    resumed_bytes "$resumed" refused "$refused" changed "$changed"
}

# --- the job ----------------------------------------------------------------------------------------------

make_folders
list_pending
sweep_staging
resumed=$(staged_bytes)
# The rate is of what this folder brings from here on.
reported_bytes=$((before_bytes + resumed))
: >"$live/changed"
: >"$live/short"
: >"$live/misplaced"
start_ticker
while [[ -s $live/pending ]]; do
  staged=$(staged_bytes)
  start_placing
  run_pass get
  stop_placing
  refused=$((refused + $(grep -c '^refused' "$live/fates" || :)))
  cat "$live/refused.words" >>"$errors"
  end_pass "$(wc -l <"$live/fates")" $(($(staged_bytes) - staged))
  # A server counts a connection for a moment after its end.
  [[ ! -s $live/pending ]] || sleep 1 || :
done

# A file can be shorter than it was listed because RDS has lost its end: lftp does not look how closing went.
if [[ -s $live/short ]]; then
  wanted=$(sort -n "$live/short" | tail -n 1)
  wanted=$((wanted / 1048576 + 1))
  if ! words=$(refusal_of "$partial" "$((wanted < MOST_TRIED ? wanted : MOST_TRIED))"); then
    echo "beamferry: refused at RDS: $words" >>"$errors"
    end_with 11
  fi
fi
# What a failure kept from its place without a word is found here, before what was fetched is removed.
unplaced=$(count_unplaced)
if [[ ! -s $live/misplaced ]] && ((unplaced > refused + $(wc -l <"$live/changed"))); then
  echo "beamferry: unplaced: files were fetched that are not in their places at RDS ($unplaced)" >>"$errors"
  end_with 11
fi
flush_destination
# All have had their turn: what is left there is of files that may not be read or have changed.
rm -rf -- "$staging"
rmdir -- "${staging%/*}" "$partial" 2>/dev/null || :
if [[ -s $live/misplaced ]]; then
  cat "$live/misplaced" >>"$errors"
  end_with 11
fi
if ((refused)); then
  # When all that the server says is that they are not there, they went away while it was copied.
  # The name, which may hold such words, comes last.
  awk '/^[a-z]*:? ?Access failed: / { reason = $0; sub(/ \(\.\/.*/, "", reason); if (reason !~ /No such file/) print }' \
    "$errors" >"$live/forbidden"
  if [[ -s $live/forbidden ]]; then
    # First, as the middle of a long list is left out.
    cat "$errors" >>"$live/forbidden"
    mv -f "$live/forbidden" "$errors"
    end_with 23
  fi
  end_with 24
fi
[[ ! -s $live/changed ]] || end_with 24
end_with 0
