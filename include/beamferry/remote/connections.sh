# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script sets what is read here, and reads what is set
# Many files over several connections of lftp, pass by pass until all have had their turn. To be sourced after
# progress.sh and lftp.sh.
#
# The script makes `live`, a folder, with `live`/pending: lines "ID SIZE TIME PATH" of what is to come. It defines
# end_with CODE, and loops: run_pass KIND, look at `live`/fates ("WORD NUMBER" for each file of `live`/pass that had
# its turn), take those off `live`/pending by end_pass. It sets streams and limit before, and reads passes and lost.

# One pass has at most this many files, so that the lists in memory stay small.
readonly PASS_FILES=50000
# Servers log in slowly, or refuse connections that arrive together.
readonly START_SPREAD=0.1
readonly TRIES_WITHOUT_PROGRESS=3
# What ends a connection for good; the last ones mean that the disk is full, or that a name is taken by a folder. They
# are looked for behind the names of files, and not in what a server says of a file.
readonly LOST='^[a-z]+: (.*: )?(Fatal error|Login failed)|^Not connected|^ssh: |^[^ ]*:? ?[Pp]ermission denied [(]'
readonly FULL=': (No space left on device|Disk quota exceeded|File too large)$|^mv: '
readonly OF_A_FILE='^[a-z]+: Access failed: '

passes=0 lost=0 idle=0 workers=0

connect() { # WORKER WORKERS
  local per=''
  ((limit == 0)) || per=$((limit / $2 > 0 ? limit / $2 : 1))
  { bound_lftp && become_data lftp --norc; } >"$live/out.$1" 2>&1 < <(
    trap - EXIT TERM INT
    lftp_opening "$per"
    echo "echo in"
    # From here on a file that may not be read is no reason to end.
    echo "set cmd:fail-exit no"
    echo "set net:max-retries 3"
    cat "$live/commands.$1"
  ) &
  connections+=($!)
}

is_in() { grep -qx in "$live/out.$1"; }

# Runs one pass: the first connection logs in before the others try, so that a wrong password is tried once.
run_pass() { # KIND
  local worker alive count ended
  passes=$((passes + 1))
  ((workers > 0)) || workers=$streams
  head -n "$PASS_FILES" "$live/pending" >"$live/pass"
  count=$(wc -l <"$live/pass")
  ((workers <= count)) || workers=$count
  rm -f "$live"/{commands,out}.*
  awk '{ print $2, NR }' "$live/pass" | sort -k1,1nr -k2,2n | awk -v kind="$1" -v workers="$workers" -v pass="$live/pass" \
    -v name="$live/commands." -v staging="${staging:-}" -v destination="$destination" -v scratch="$live" -f "$here/deal.awk"
  connections=()
  connect 0 "$workers"
  # Of each pause: a stall ends all processes below the script, and that must not end the script.
  until is_in 0 || ! kill -0 "${connections[0]}" 2>/dev/null; do sleep 0.1 || :; done
  if is_in 0; then
    for ((worker = 1; worker < workers; worker++)); do
      [[ -e $live/commands.$worker ]] || break
      sleep "$START_SPREAD" || :
      connect "$worker" "$workers"
    done
  fi
  alive=1
  while ((alive)); do
    # A connection that is lost for good would try and fail for each of its files.
    ended=$'\n'$(awk -v words="$LOST|$FULL" -v of_a_file="$OF_A_FILE" '
      $0 ~ words && $0 !~ of_a_file && !told[FILENAME]++ { print FILENAME }' "$live"/out.* || :)$'\n'
    alive=0
    for ((worker = 0; worker < ${#connections[@]}; worker++)); do
      kill -0 "${connections[worker]}" 2>/dev/null || continue
      alive=1
      [[ $ended != *$'\n'"$live/out.$worker"$'\n'* ]] || kill "${connections[worker]}" 2>/dev/null || :
    done
    ((alive == 0)) || sleep 0.2 || :
  done
  wait "${connections[@]}" 2>/dev/null || :
  if [[ -e $BEAMFERRY_JOB/stalled ]]; then
    echo "Nothing moved for $stall seconds: the connections were stopped."
    end_with 75
  fi
  read_fates
}

# What became of each file: a word and its number; lftp's own words stand before "no N".
read_fates() {
  : >"$live/refused.words"
  awk -v words="$live/refused.words" '
    FNR == 1 { reason = "" }
    /^(ok|same|differs) [0-9]+$/ { print; reason = ""; next }
    /^no [0-9]+$/ {
      # A reply of the 400s passes, e.g. "426 Connection closed".
      if (reason ~ /(^|\n)[a-z]+: Access failed: / && reason !~ /(^|\n)[a-z]+: Access failed: 4/) { print "refused", $2; printf "%s", reason >> words }
      reason = ""
      next
    }
    $0 != "in" { reason = reason $0 "\n" }' "$live"/out.* >"$live/fates"
}

# Takes off what is to come the files of the pass that had their turn.
drop_fates() {
  awk -v fates="$live/fates" '
    BEGIN { while ((getline line < fates) > 0) { split(line, field, " "); done[field[2]] = 1 } }
    !(NR in done)' "$live/pending" >"$live/left"
  mv -f "$live/left" "$live/pending"
}

# Takes the pass's fates off what is to come, and ends the job when it cannot go on; after the last pass it does nothing.
end_pass() { # NEW-FATES NEW-BYTES-OF-UNFINISHED-FILES
  local got_in
  drop_fates
  got_in=$(cat "$live"/out.* | grep -cx in || :)
  cat "$live"/out.* | awk -v words="$LOST|$FULL" -v of_a_file="$OF_A_FILE" '
    $0 ~ words && $0 !~ of_a_file' >"$live/fatal" || :
  # What was counted is not counted again.
  rm -f "$live"/out.*
  [[ -s $live/pending ]] || return 0
  # More files than one pass has are no loss.
  (($(wc -l <"$live/fates") == $(wc -l <"$live/pass"))) || lost=$((lost + 1))
  if grep -qE "$FULL" "$live/fatal"; then
    cat "$live/fatal" >>"$errors"
    end_with 11
  fi
  # Too many connections are no wrong password: with fewer it goes on.
  if ((got_in == 0)) && [[ $(grep -v -e 421 -e '[Tt]oo many' "$live/fatal" |
    grep -cE 'Login failed|Certificate|GetPass|[Pp]ermission denied \(|Host key' || :) != 0 ]]; then
    cat "$live/fatal" >>"$errors"
    end_with 67
  fi
  ((got_in == 0)) || workers=$got_in
  if (($1 > 0 || $2 > 0)); then
    idle=0
    return 0
  fi
  idle=$((idle + 1))
  if ((idle == TRIES_WITHOUT_PROGRESS)); then
    cat "$live/fatal" >>"$errors"
    end_with 68
  fi
  sleep $((idle * 2)) || :
}
