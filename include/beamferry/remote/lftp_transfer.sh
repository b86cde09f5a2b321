#!/usr/bin/env bash
# Fetches what W/todo lists of one folder, over several connections of lftp.
#
#   lftp_transfer.sh --work W --folder NAME --streams N --limit BYTES-PER-SECOND --stall SECONDS --destination D
#                    FACILITY'S ARGUMENTS (see lftp.sh)
#
# NAME "." stands for the files that lie beside the folders; a limit of 0 is none. Each connection is an lftp of its
# own with its share of the files. A file arrives under a name made of its path, size and time, in a folder that
# nothing lists, and is renamed into its place once it is whole: what a kill leaves behind is continued by the next
# start, and never with bytes of another version. lftp's mirror is not used: it lists once more, copies modes that lock
# us out, and continues files that have changed.
#
# Exit codes: 11 disk full or not writable, 23 some files may not be read, 24 some are gone or have changed, 67 the
# log-in failed, 68 the connection broke again and again, 75 nothing moved for --stall seconds.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/lftp.sh
. "$here/lftp.sh"
# shellcheck source=include/beamferry/remote/connections.sh
. "$here/connections.sh"
begin transfer 'lftp|ssh'
require lftp ssh awk find sort xargs stat touch pgrep readlink

work='' folder='' streams=1 limit=0 destination=''
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --folder) folder=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --limit) limit=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    *) far_argument "$1" "${2:-}" || refuse "lftp_transfer.sh: unknown argument $1" && shift 2 ;;
  esac
done
[[ -n $work && -n $folder && -n $destination ]] || refuse "lftp_transfer.sh: --work, --folder and --destination are needed"
[[ $streams =~ ^[1-9][0-9]?$ && $limit =~ ^[0-9]+$ && $stall =~ ^[0-9]+$ ]] ||
  refuse "lftp_transfer.sh: --streams, --limit and --stall must be numbers"
[[ -s $work/todo.totals && -e $work/todo && -e $work/source.census ]] ||
  refuse "lftp_transfer.sh: no to-do list in $work: the dry run comes first"
far_ready

work=$(readlink -m -- "$work")
destination=$(readlink -m -- "$destination")
live=$work/lftp
rm -rf "$live"
(umask 077 && mkdir -p "$live")
read -r files_total bytes_total <"$work/todo.totals"
window=$(cat "$work/modify_window" 2>/dev/null || echo 1)
partial=$destination/.beamferry-partial
# Each folder has its own: when it is whole, nothing in there is of use.
staging=$partial/.beamferry-lftp/$(printf '%s' "$folder" | sha256sum | cut -c1-16)
mkdir -p -- "$destination" "$staging" 2>>"$errors" || finish 11

placed_files=0 placed_bytes=0 before_files=0 before_bytes=0 resumed=0 refused=0 changed=0
[[ ! -s $work/placed ]] ||
  read -r before_bytes before_files < <(awk '{ b += $1; f += $2 } END { printf "%.0f %.0f\n", b, f }' "$work/placed")

# --- lists ------------------------------------------------------------------------------------------------

# This folder's records of a census or a to-do list.
of_folder() { # LIST
  awk -v folder="$folder" '
    BEGIN { RS = "\0" }
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
  (cd -- "$destination" && xargs -0 -r mkdir -p -- <"$live/folders") 2>>"$errors" || finish 11
}

# Lines "ID SIZE TIME PATH" of what is still to come: not what an earlier start has put in its place. The ID is made
# of two sums over the path, and of size and time: another version of a file never has the same.
list_pending() {
  of_folder "$work/todo" >"$live/todo"
  awk 'BEGIN { RS = "\0" } { printf "./%s%c", substr($0, 1, index($0, "//") - 1), 0 }' "$live/todo" |
    (cd -- "$destination" && xargs -0 -r stat -c '%s %Y %n' -- 2>/dev/null || :) >"$live/there"
  awk -v there="$live/there" -v window="$window" '
    BEGIN {
      while ((getline line < there) > 0) {
        split(line, field, " ")
        name = substr(line, length(field[1]) + length(field[2]) + 5)
        size_there[name] = field[1]
        time_there[name] = field[2]
      }
      RS = "\0"
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

# What became of each file: "ok", "refused" by the server, or neither; lftp's words stand before "no N".
read_pass() {
  : >"$live/refused.words"
  awk -v words="$live/refused.words" '
    FNR == 1 { reason = "" }
    /^ok [0-9]+$/ { print "ok", $2; reason = ""; next }
    /^no [0-9]+$/ {
      if (reason ~ /Access failed/ && reason !~ /Access failed: 4/) { print "refused", $2; printf "%s", reason >> words }
      reason = ""
      next
    }
    $0 != "in" { reason = reason $0 "\n" }' "$live"/out.* >"$live/fates"
}

staged_bytes() {
  find "$staging" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# --- progress ---------------------------------------------------------------------------------------------

tick() {
  local bytes files
  read -r bytes files < <(cat "$live"/out.* 2>/dev/null | awk -v pass="$live/pass" '
    BEGIN { while ((getline line < pass) > 0) { split(line, field, " "); size[++n] = field[2] } }
    /^ok [0-9]+$/ { bytes += size[$2]; files++ }
    END { printf "%.0f %.0f\n", bytes, files }')
  report $((before_bytes + placed_bytes + bytes + $(staged_bytes))) "$bytes_total" $((before_files + placed_files + files)) \
    "$files_total"
}

end_with() { # CODE
  ((placed_files == 0)) || echo "$placed_bytes $placed_files" >>"$work/placed"
  stop_ticker
  report $((before_bytes + placed_bytes)) "$bytes_total" $((before_files + placed_files)) "$files_total"
  finish "$1" bytes "$placed_bytes" files "$placed_files" streams "$streams" passes "$passes" lost "$lost" \
    resumed_bytes "$resumed" refused "$refused" changed "$changed"
}

# --- the job ----------------------------------------------------------------------------------------------

make_folders
list_pending
resumed=$(staged_bytes)
: >"$live/pass"
start_ticker
while [[ -s $live/pending ]]; do
  staged=$(staged_bytes)
  run_pass get
  read_pass
  # Of what has arrived: is it what was listed? Times that the server did not tell are set from the listing.
  awk -v pass="$live/pass" '
    BEGIN { while ((getline line < pass) > 0) record[++count] = line }
    $1 == "ok" { print record[$2] }' "$live/fates" >"$live/arrived"
  awk '{ printf "./%s%c", substr($0, length($1) + length($2) + length($3) + 4), 0 }' "$live/arrived" |
    (cd -- "$destination" && xargs -0 -r stat -c '%s %Y' -- 2>>"$errors" || :) >"$live/sizes"
  paste -d ' ' "$live/sizes" "$live/arrived" | awk -v window="$window" -v wrong="$live/wrong" -v times="$live/times" '
    BEGIN { printf "" > wrong; printf "" > times }
    {
      path = substr($0, length($1) + length($2) + length($3) + length($4) + length($5) + 6)
      files++
      bytes += $4
      if ($1 != $4) print path > wrong
      else if ($2 - $5 > window || $5 - $2 > window) printf "%s%c./%s%c", "@" $5, 0, path, 0 > times
    }
    END { printf "%.0f %.0f\n", bytes, files }' >"$live/sums"
  # shellcheck disable=SC2016
  (cd -- "$destination" && xargs -0 -r -n 2 sh -c 'touch -d "$1" -- "$2"' sh <"$live/times") 2>>"$errors" || finish 11
  read -r bytes files <"$live/sums"
  placed_bytes=$((placed_bytes + bytes)) placed_files=$((placed_files + files))
  changed=$((changed + $(wc -l <"$live/wrong")))
  sed 's/^/beamferry: changed: /' "$live/wrong" >>"$errors"
  news=$((files + $(grep -c '^refused' "$live/fates" || :)))
  refused=$((refused + news - files))
  cat "$live/refused.words" >>"$errors"
  awk -v fates="$live/fates" '
    BEGIN { while ((getline line < fates) > 0) { split(line, field, " "); done[field[2]] = 1 } }
    !(NR in done)' "$live/pending" >"$live/left"
  end_pass "$news" $(($(staged_bytes) - staged))
done

echo "$placed_files files have come."
if ((refused)); then
  # When all that the server says is that they are not there, they went away while it was copied.
  if grep 'Access failed' "$errors" | grep -qv 'No such file'; then end_with 23; fi
  end_with 24
fi
((changed == 0)) || end_with 24
rm -rf -- "$staging"
rmdir -- "${staging%/*}" "$partial" 2>/dev/null || :
end_with 0
