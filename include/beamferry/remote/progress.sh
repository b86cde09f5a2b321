# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # what begin sets is read by the scripts
# What every job script shares: its progress, its result, what it heard on stderr, and its end. To be sourced.
#
# BEAMFERRY_JOB is the job's folder. A script calls begin, starts its children, may have a ticker report on
# them, and leaves through finish: whatever happens there is a result.json.

export LC_ALL=C
# Our own notes are for this account alone; what lands on RDS gets the modes that any copying there would give it, or
# those that the entry wants.
umask 077
data_umask=022
become_data() { # COMMAND...: in the place of a subshell, as a job in the background is one
  umask "$data_umask"
  exec "$@"
}
as_data() { # COMMAND...
  (become_data "$@")
}

# shellcheck source=include/beamferry/remote/request.sh
. "$here/request.sh"

# Stderr beyond this much helps nobody: its first half names the cause, its last half the outcome.
readonly ERRORS_LIMIT=65536
readonly TICK_SECONDS=2
# Keep-alives of rsync are a few bytes each: less than this much in all that time is no progress.
readonly STALL_BYTES=4096

now() { printf '%(%s)T' -1; }

begin() { # PHASE TOOLS: the phase names the result too; TOOLS, a pattern of pgrep, are those that move bytes
  phase=$1 result_name=$1 movers=$2 begun=$(now) finished='' ticker='' stall=0
  reported_bytes=0 reported_at=$begun rate=-1 moved=0 seen=0 mark=0 mark_at=$begun
  declare -gA counted=()
  errors=${BEAMFERRY_JOB:?is not set}/errors.all
  : >"$errors"
  trap 'terminated' TERM INT
  trap 'unexpected $?' EXIT
}

put() { # FILE: takes stdin, whole or not at all; two at once have two names
  local new=$1.$BASHPID-$RANDOM.new
  cat >"$new" && mv -f "$new" "$1"
}

require() { # TOOL...: or ends the job with 77
  local tool
  for tool; do
    command -v "$tool" >/dev/null && continue
    echo "$tool: not found on this host" >>"$errors"
    finish 77
  done
}

refuse() { # SENTENCE: the script was called wrongly
  echo "$1" | tee -a "$errors" >&2
  finish 78
}

lists_are_gone() { # FOLDER: what an earlier job left there was removed
  echo "no to-do list in $1: the dry run makes it" >>"$errors"
  finish 69
}

report() { # BYTES_DONE BYTES_TOTAL FILES_DONE FILES_TOTAL
  local at bytes=$1 latest
  at=$(now)
  # A file fetched twice counts twice in the logs; what is shown neither runs over nor backwards.
  ((bytes <= $2)) || bytes=$2
  ((bytes >= reported_bytes)) || bytes=$reported_bytes
  if ((at > reported_at)); then
    latest=$(((bytes - reported_bytes) / (at - reported_at)))
    # A mean that forgets: a tick weighs 2 in 10, so the rate follows the last twenty seconds or so.
    if ((rate < 0)); then rate=$latest; else rate=$(((rate * 8 + latest * 2) / 10)); fi
    reported_bytes=$bytes reported_at=$at
  fi
  printf '{"phase":"%s","bytes_done":%d,"bytes_total":%d,"files_done":%d,"files_total":%d,"rate":%d,"updated":%d}\n' \
    "$phase" "$bytes" "$2" "$3" "$4" "$((rate < 0 ? 0 : rate))" "$at" | put "$BEAMFERRY_JOB/progress.json"
}

# What came in without any of those tools, in bytes; a script may have another one.
arrived() { echo 0; }

# Adds to `moved` what our tools have read and written since the last look. ssh is left out: its keep-alives
# are answered by a far side whose file system hangs.
measure() {
  local pid key value sum
  local -A current=()
  sum=$(arrived)
  ((sum <= seen)) || moved=$((moved + sum - seen))
  seen=$sum
  for pid in $(pgrep -g 0 -x "$movers" || :); do
    sum=0
    while read -r key value; do
      case $key in rchar: | wchar:) sum=$((sum + value)) ;; esac
    done 2>/dev/null <"/proc/$pid/io" || continue
    current[$pid]=$sum
    ((sum <= ${counted[$pid]:-0})) || moved=$((moved + sum - ${counted[$pid]:-0}))
  done
  counted=()
  for pid in ${current[@]+"${!current[@]}"}; do counted[$pid]=${current[$pid]}; done
}

# Ends the streams when nothing moved for --stall seconds; the main script finds the mark and ends with 75.
watch_for_stall() {
  measure
  if ((moved - mark >= STALL_BYTES)); then
    mark=$moved mark_at=$(now)
  elif ((stall > 0 && $(now) - mark_at >= stall)); then
    : >"$BEAMFERRY_JOB/stalled"
    end_children
  fi
}

# Ends the job when that happened; to be called before any other reason is looked for.
check_stall() {
  [[ -e $BEAMFERRY_JOB/stalled ]] || return 0
  echo "Nothing moved for $stall seconds: the streams were stopped."
  finish 75
}

# Runs the script's `tick` every two seconds beside it. Its pause is a read from a pipe that stays empty until it
# is to end: a `sleep` would outlive the ticker and hold the job's lock.
start_ticker() {
  rm -f "$BEAMFERRY_JOB/stalled"
  exec {bell}<> <(:)
  (
    trap - TERM INT EXIT
    while kill -0 $$ 2>/dev/null; do
      # A look at files that come and go may fail; the next one is due in two seconds.
      tick || :
      watch_for_stall || :
      if read -r -t "$TICK_SECONDS" -u "$bell"; then break; fi
    done
  ) &
  ticker=$!
}

# Lets the ticker finish what it is writing: killed, it could leave a child that renames its older file over ours.
stop_ticker() {
  [[ -n $ticker ]] || return 0
  # Two lines: bash loses the first when it comes in the instant in which the pause ends.
  printf '\n\n' >&"$bell"
  wait "$ticker" 2>/dev/null || :
  exec {bell}>&-
  ticker=''
}

descendants() { # PID
  local child
  for child in $(pgrep -P "$1" || :); do
    [[ $child != "$BASHPID" ]] || continue
    echo "$child"
    descendants "$child"
  done
}

# Asks all processes below the script to end, then insists. rsync saves its partial file when asked.
end_children() {
  local pid round self=$BASHPID
  local -a pids=() alive
  for pid in $(descendants $$); do [[ $pid == "$self" || $pid == "$ticker" ]] || pids+=("$pid"); done
  for round in {1..40}; do
    alive=()
    for pid in ${pids[@]+"${pids[@]}"}; do ! kill -0 "$pid" 2>/dev/null || alive+=("$pid"); done
    ((${#alive[@]})) || return 0
    if ((round == 1)); then kill -TERM "${alive[@]}" 2>/dev/null || :; fi
    if ((round == 40)); then kill -KILL "${alive[@]}" 2>/dev/null || :; fi
    read -r -t 0.2 <> <(:) || :
  done
}

terminated() {
  trap '' TERM INT
  end_children
  finish 143
}

unexpected() { # CODE
  [[ -n $finished ]] || finish "$(($1 == 0 ? 76 : $1))"
}

# Tries to write into a folder, and prints why it takes nothing: what failed may have said so to nobody, as a quota may
# be told of at the end of a file alone.
refusal_of() { # FOLDER [MIB]: 0 where it takes 64 KiB and that much
  local trial=$1/.beamferry-trial.$BASHPID-$RANDOM$RANDOM code=0
  [[ -d $1 ]] || return 0
  # noclobber makes the file anew or not at all: a link that somebody has put there is not followed.
  (
    umask 077
    set -o noclobber
    exec 2>&1
    dd if=/dev/zero bs=64k count="$((${2:-0} * 16 + 1))" conv=fsync status=none >"$trial"
  ) || code=$?
  rm -f -- "$trial" 2>/dev/null || :
  return "$code"
}

# Whether it was RDS or our own folder at home that took nothing. Sets code.
tell_refusal() {
  local words
  if ! words=$(refusal_of "$BEAMFERRY_JOB"); then
    code=74
    echo "beamferry: refused at home: $words" >>"$errors" || :
  elif ((code == 11)) && [[ -n ${destination:-} ]] && ! words=$(refusal_of "$destination"); then
    echo "beamferry: refused at RDS: $words" >>"$errors" || :
  fi
}

finish() { # CODE [KEY NUMBER]...: writes the result and ends the job
  local code=$1 size
  shift
  finished=yes
  stop_ticker
  # The others have a reason of their own.
  case $code in 1 | 2 | 11 | 74 | 76 | 141 | 153) tell_refusal ;; esac
  size=$(stat -c %s "$errors")
  if ((size > ERRORS_LIMIT)); then
    {
      head -c $((ERRORS_LIMIT / 2 - 64)) "$errors"
      printf '\n[%d bytes left out]\n' $((size - ERRORS_LIMIT + 128))
      tail -c $((ERRORS_LIMIT / 2 - 64)) "$errors"
    } | put "$BEAMFERRY_JOB/errors"
    rm -f "$errors"
  else
    mv -f "$errors" "$BEAMFERRY_JOB/errors"
  fi
  {
    printf '{"phase":"%s","exit_code":%d,"seconds":%d' "$result_name" "$code" $(($(now) - begun))
    while (($#)); do
      printf ',"%s":%d' "$1" "$2"
      shift 2
    done
    echo '}'
  } | put "$BEAMFERRY_JOB/result.json"
  exit "$code"
}

# Asks the agent; its answer goes to stdout, its complaint to `errors`.
ask_agent() { # VERB [KEY TEXT]...
  request "${@:2}" | sh "$here/agent.sh" "$1" 2>>"$errors"
}

# Sets `destination` to the folder without links on the way, as rsync 3.5 follows none of another owner's (exit 3); what
# somebody else's link leads to is no destination.
resolve_destination() { # or ends the job with 70 or 11
  destination=$(ask_agent resolve destination "$destination") || no_destination $?
}

# Does the same, and makes the folder, and one of the transfer's own below it, through no link.
prepare_destination() { # BELOW: or ends the job with 70 or 11
  destination=$(ask_agent prepare destination "$destination" below "$1" umask "$data_umask") || no_destination $?
}

# Stays in the folder that was prepared, whatever somebody puts into its place from now on; to be left with a subshell.
enter_destination() { # or 70, or 11 where RDS does not let us in
  cd -P -- "$destination" || return 11
  if [[ $(readlink /proc/self/cwd) == "$destination" ]]; then return 0; fi
  echo "agent: $destination is not the folder any more that it was when the job began" >&2
  return 70
}

no_destination() { # CODE of the agent
  finish "$(($1 == 70 ? 70 : 11))"
}

# Exit codes that all scripts share: 11 RDS takes nothing, 69 lists of an earlier job are gone, 70 what is at the
# destination is not the account's own, 74 our own folder at home takes nothing, 75 stalled, 76 the script ended in a way
# that it did not expect, 77 a tool is missing, 78 called wrongly, 80 the facility's log-in shell never said our mark.

# Flushes what was written at the destination: until then a loss of power could undo what is called fetched.
flush_destination() { # or ends the job with 11
  local words
  [[ -d $destination ]] || return 0
  # -f, for this file system alone, came with coreutils 8.24.
  if sync -f / 2>/dev/null; then
    words=$(sync -f -- "$destination" 2>&1) || { echo "$words" >>"$errors" && finish 11; }
  else
    sync
  fi
  rm -f "$work/unflushed"
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# From now until flush_destination what is written may be lost with the host's power.
note_unflushed() {
  printf '%s %s\n' "$(boot_id)" "$(now)" | put "$work/unflushed"
}

# Has everything that an earlier boot of this host wrote, and may not have flushed, fetched and compared again.
suspect_unflushed() { # SOURCE, as HOST:PATH
  local boot since code=0
  [[ -s $work/unflushed ]] || return 0
  read -r boot since <"$work/unflushed"
  if [[ $boot != "$(boot_id)" && -d $destination ]]; then
    echo "The host was restarted before all was flushed: files of that time are fetched and compared again."
    (cd -- "$destination" && find . -type f -newerct "@$since" -printf '%P\0') >"$work/suspects" 2>>"$errors" || finish 23
    # 65: what is remembered is damaged, and so everything is compared again.
    ask_agent suspect source "$1" destination "$destination" list "$work/suspects" >/dev/null || code=$?
    ((code == 0 || code == 65)) || finish "$code"
  fi
  rm -f "$work/unflushed"
}

quoted() { # TEXT: as one word of a POSIX shell
  printf "'%s'" "${1//\'/\'\\\'\'}"
}
