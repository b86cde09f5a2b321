# shellcheck shell=bash
# shellcheck disable=SC2154  # the sourcing script sets what is read here
# Puts files that have arrived into their places while others still come. To be sourced after connections.sh.
#
# Reads `live`/pass and the "ok N" of `live`/out.*; the script makes `live`/changed, `live`/short and `live`/misplaced,
# empty, and reads them at its end: files that are not as they were listed, the sizes of those that are shorter, and lftp's
# words on those that found no place.

placer='' gate=''

placed_so_far() { # prints BYTES FILES of all folders since the dry run
  cat "$work/placed" 2>/dev/null | awk '{ bytes += $1; files += $2 } END { printf "%.0f %.0f\n", bytes, files }'
}

# Every second beside the connections: few files wait, so that few have to be looked at again after a kill.
start_placing() {
  : >"$live/settled"
  # Its pause is a read from a pipe, as the ticker's is.
  exec {gate}<> <(:)
  (
    trap - TERM INT EXIT
    while kill -0 $$ 2>/dev/null; do
      settle
      if read -r -t 1 -u "$gate"; then break; fi
    done
  ) &
  placer=$!
}

stop_placing() {
  [[ -n $placer ]] || return 0
  # Two lines: bash loses the first when it comes in the instant in which the pause ends.
  printf '\n\n' >&"$gate"
  wait "$placer" 2>/dev/null || :
  exec {gate}>&-
  placer=''
  settle
}

# A file that is not as it was listed is thrown away. Its time tells as well as its size, as lftp copies it; where the
# server tells none the file has the time at which it came, and gets the listing's. The next listing then shows whether
# that was right.
settle() {
  cat "$live"/out.* 2>/dev/null | awk -v settled="$live/settled" -v pass="$live/pass" '
    BEGIN {
      while ((getline line < settled) > 0) over[line] = 1
      while ((getline line < pass) > 0) record[++count] = line
    }
    /^ok [0-9]+$/ && !($2 in over) { print $2, record[$2] }' >"$live/arrived"
  [[ -s $live/arrived ]] || return 0
  (cd -- "$staging" && cut -d ' ' -f 2 "$live/arrived" | xargs -r stat -c '%n %s %Y' -- 2>/dev/null || :) >"$live/sizes"
  awk -v sizes="$live/sizes" -v window="$window" -v since="$since" -v destination="$destination" -v staging="$staging" \
    -v changed="$live/changed" -v short="$live/short" -v away="$live/away" -v times="$live/times" -v moves="$live/moves" '
    BEGIN {
      while ((getline line < sizes) > 0) { split(line, field, " "); size[field[1]] = field[2]; time[field[1]] = field[3] }
      printf "" > away
      printf "" > times
      print "set cmd:interactive no\nset cmd:fail-exit no" > moves
    }
    # One that is not there any more was placed by a placer that was stopped before it could say so.
    $2 in size {
      path = substr($0, length($1) + length($2) + length($3) + length($4) + 5)
      early = $4 - time[$2] > window
      late = time[$2] - $4 > window
      if (size[$2] != $3 || ((early || late) && time[$2] < since)) {
        print "beamferry: changed: " path >> changed
        if (size[$2] < $3) print $3 >> short
        print $2 > away
        next
      }
      if (early || late) printf "@%s%c%s%c", $4, 0, $2, 0 > times
      printf "local mv %s %s && echo \"placed %d\"\n", word(staging "/" $2), word(destination "/" path), $1 > moves
    }
    function word(text) {
      gsub(/[\\"]/, "\\\\&", text)
      return "\"" text "\""
    }' "$live/arrived"
  # shellcheck disable=SC2016
  (cd -- "$staging" && xargs -r rm -f -- <"$live/away" && xargs -0 -r -n 2 sh -c 'touch -d "$1" -- "$2"' sh <"$live/times") \
    2>>"$live/misplaced" || :
  # One lftp renames them all, where mv would be a process for each.
  lftp --norc <"$live/moves" >"$live/moved" 2>>"$live/misplaced" || :
  awk -v arrived="$live/arrived" '
    BEGIN { while ((getline line < arrived) > 0) { split(line, field, " "); size[field[1]] = field[3] } }
    /^placed [0-9]+$/ { bytes += size[$2]; files++ }
    END { if (files) printf "%.0f %.0f\n", bytes, files }' "$live/moved" >>"$work/placed"
  cut -d ' ' -f 1 "$live/arrived" >>"$live/settled"
}
