#!/usr/bin/env bash
# Starts, watches and stops one detached job on RDS-SSH. One job of a beamtime runs at a time, however often
# it is started: a second start attaches to the first, and what a killed job left behind is stopped first.
#
#   job.sh start --job DIR --lock FILE --key KEY -- SCRIPT [ARGUMENT ...]    prints started, attached or finished
#   job.sh status --job DIR          prints one line of JSON: state, exit code, age of the heartbeat, progress
#   job.sh stop --job DIR            stops the whole process group, prints the state that results
#   job.sh acknowledge --job DIR     forgets a finished job, so that the next start begins afresh
#
# Files in DIR: pid (process group, start time, host), key, call, heartbeat, log, errors, progress.json,
# result.json, exit_code. SCRIPT runs with BEAMFERRY_JOB=DIR and inherits the lock, so that an orphan holds it.
set -euo pipefail
export LC_ALL=C

readonly HEARTBEAT_SECONDS=2
# A job on another node of RDS-SSH cannot be asked for its process: there the heartbeat alone decides.
readonly STALE_SECONDS=60

die() {
  echo "job.sh: $1" >&2
  exit 78
}

# Start time in clock ticks since boot: with it a process number that was given out again is not taken for ours.
# Field 22 of stat; the command name before it may hold spaces and brackets, so count from the last bracket.
born() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "$1" != Z ] || return 1
  echo "${20}"
}

# Sets state, group, owner_host and age from the files of a job.
read_state() {
  local dir=$1 start=
  state=absent group=0 owner_host='' age=-1
  if [ -e "$dir/heartbeat" ]; then
    age=$(($(date +%s) - $(stat -c %Y "$dir/heartbeat")))
  fi
  if [ -s "$dir/pid" ]; then
    read -r group start owner_host <"$dir/pid"
  fi
  if [ -s "$dir/exit_code" ]; then
    state=finished
  elif [ "$group" -gt 1 ]; then
    if [ "$owner_host" != "$(uname -n)" ]; then
      if [ "$age" -ge 0 ] && [ "$age" -le "$STALE_SECONDS" ]; then state=running; else state=dead; fi
    elif [ "$(born "$group" || true)" = "$start" ]; then
      state=running
    else
      state=dead
    fi
  fi
}

# Ends every process of a group, children of a killed leader too: first asks, then insists.
end_group() {
  local group=$1
  [ "$group" -gt 1 ] || return 0
  kill -TERM -- "-$group" 2>/dev/null || return 0
  for _ in $(seq 50); do
    kill -0 -- "-$group" 2>/dev/null || return 0
    sleep 0.2
  done
  kill -KILL -- "-$group" 2>/dev/null || true
  for _ in $(seq 25); do
    kill -0 -- "-$group" 2>/dev/null || return 0
    sleep 0.2
  done
  die "process group $group does not end"
}

stop_job() {
  local dir=$1
  read_state "$dir"
  if [ "$group" -gt 1 ] && [ "$owner_host" != "$(uname -n)" ] && [ "$state" = running ]; then
    die "the job runs on $owner_host, this is $(uname -n): log in there to stop it"
  fi
  # A dead leader may have left children; a finished one has none, and its number may be somebody else's by now.
  if [ "$state" = running ] || [ "$state" = dead ]; then
    end_group "$group"
    [ -s "$dir/exit_code" ] || echo 143 >"$dir/exit_code"
  fi
}

write_file() { # NAME < text, whole or not at all
  cat >"$1.new"
  mv -f "$1.new" "$1"
}

start() {
  local dir=$1 lock=$2 key=$3 call holder
  shift 3
  umask 077
  mkdir -p "$dir" "$(dirname "$lock")"
  exec 8>"$lock.start"
  flock -w 60 8 || die "another start of this beamtime is taking over a minute"
  call=$(printf '%s\0' "$@" | sha256sum | cut -c1-64)
  read_state "$dir"
  if [ "$state" = running ] && [ "$(cat "$dir/call" 2>/dev/null)" = "$call" ]; then
    echo attached
    return
  fi
  if [ "$state" = finished ] && [ "$(cat "$dir/exit_code")" = 0 ] &&
    [ "$(cat "$dir/key" 2>/dev/null)" = "$key" ] && [ "$(cat "$dir/call" 2>/dev/null)" = "$call" ]; then
    echo finished
    return
  fi
  stop_job "$dir"
  # Whoever still holds the lock is a leftover of an earlier job of this beamtime: Airflow runs one at a time.
  if holder=$(cat "$lock" 2>/dev/null) && [ -n "$holder" ] && [ "$holder" != "$dir" ] && [ -d "$holder" ]; then
    stop_job "$holder"
  fi
  rm -f "$dir"/{pid,key,call,heartbeat,progress.json,result.json,exit_code,errors,stats,notes}
  [ ! -e "$dir/log" ] || mv -f "$dir/log" "$dir/log.previous"
  echo "$key" | write_file "$dir/key"
  echo "$call" | write_file "$dir/call"
  : >"$dir/log"
  setsid bash "$0" run --job "$dir" --lock "$lock" --key "$key" -- "$@" </dev/null >>"$dir/log" 2>&1 8>&- &
  for _ in $(seq 100); do
    [ ! -s "$dir/pid" ] || break
    sleep 0.1
  done
  [ -s "$dir/pid" ] || die "the job did not start within 10 seconds: see $dir/log"
  echo started
}

# The job itself, leader of a session of its own.
run() {
  local dir=$1 lock=$2 code=0 script
  shift 3
  umask 077
  echo "$$ $(born $$) $(uname -n)" | write_file "$dir/pid"
  : >"$dir/heartbeat"
  exec 9>>"$lock"
  if ! flock -w 30 9; then
    echo "Another process of this beamtime still holds $lock."
    echo 79 | write_file "$dir/exit_code"
    return
  fi
  echo "$dir" >"$lock"
  # The loop ends by itself when its leader is killed: a heartbeat never outlives the job.
  (
    exec 9>&-
    while kill -0 $$ 2>/dev/null; do
      : >"$dir/heartbeat"
      sleep "$HEARTBEAT_SECONDS"
    done
  ) &
  local heart=$!
  # TERM reaches the whole group; the leader waits for the script, then writes down how it ended.
  trap ':' TERM
  script=$1
  shift
  case $dir in /*) export BEAMFERRY_JOB=$dir ;; *) export BEAMFERRY_JOB=$PWD/$dir ;; esac
  (trap - TERM && exec bash "$script" "$@") &
  local child=$!
  while :; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  kill "$heart" 2>/dev/null || true
  [ -s "$dir/result.json" ] || echo "{\"phase\":\"ended\",\"exit_code\":$code,\"seconds\":0}" | write_file "$dir/result.json"
  echo "$code" | write_file "$dir/exit_code"
}

status() {
  local dir=$1 code=null progress=null
  read_state "$dir"
  [ ! -s "$dir/exit_code" ] || code=$(cat "$dir/exit_code")
  [ ! -s "$dir/progress.json" ] || progress=$(tr -d '\n' <"$dir/progress.json")
  printf '{"state":"%s","exit_code":%s,"heartbeat_age":%d,"progress":%s}\n' "$state" "$code" "$age" "$progress"
}

verb=${1:-}
[ $# -eq 0 ] || shift
job='' lock='' key=''
while [ $# -gt 0 ]; do
  case $1 in
    --job) job=${2:-} && shift 2 ;;
    --lock) lock=${2:-} && shift 2 ;;
    --key) key=${2:-} && shift 2 ;;
    --) shift && break ;;
    *) die "unknown argument: $1" ;;
  esac
done
[ -n "$job" ] || die "--job is missing"
case $verb in
  start | run)
    if [ -z "$lock" ] || [ -z "$key" ] || [ $# -eq 0 ]; then die "$verb needs --lock, --key and a script"; fi
    "$verb" "$job" "$lock" "$key" "$@"
    ;;
  status) status "$job" ;;
  stop)
    stop_job "$job"
    status "$job"
    ;;
  acknowledge)
    read_state "$job"
    [ "$state" != finished ] || rm -f "$job/exit_code" "$job/pid"
    ;;
  *) die "unknown verb: ${verb:-none}" ;;
esac
