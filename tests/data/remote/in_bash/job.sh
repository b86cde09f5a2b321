#!/usr/bin/env bash
# Starts, watches and stops one detached job on RDS-SSH. One job of a beamtime runs at a time, and one for a
# destination, however often and by whomever it is started: a second start attaches to the same job, and says whose
# job it has to wait for otherwise.
#
#   job.sh start --job DIR --lock FILE --destination PATH --key RUN --owner ID --name NAME -- SCRIPT [ARGUMENT ...]
#                                    prints "started GENERATION", "attached GENERATION", "finished GENERATION", or
#                                    "busy" and a JSON object that says who keeps the beamtime or its destination
#   job.sh status --job DIR          prints one line of JSON: state, exit code, age of the heartbeat, generation, progress
#   job.sh stop --job DIR [--generation G] [--owner ID]   stops the job's processes, prints the state that results
#   job.sh acknowledge --job DIR     forgets a job that ended, so that the next start begins afresh
#
# Each start is a generation. Files in DIR: mark (generation, who started it, where, what), pid (process group, start
# time, host), key, heartbeat, log, errors, progress.json, result.json, exit_code. SCRIPT runs with BEAMFERRY_JOB=DIR and
# BEAMFERRY_GENERATION, by which its processes are known, and inherits the locks: whatever still writes holds them.
# The locks lie outside of what they guard, and nothing of ours removes them. A lock's file holds its holder's mark.
set -euo pipefail
export LC_ALL=C
bin=${BASH_SOURCE[0]%/*}
# shellcheck source=tests/data/remote/in_bash/processes.sh
. "$bin/processes.sh"
# shellcheck source=tests/data/remote/in_bash/starting.sh
. "$bin/starting.sh"

readonly HEARTBEAT_SECONDS=2
# A job on another node of RDS-SSH cannot be asked for its process: there the heartbeat alone decides.
readonly STALE_SECONDS=60

die() {
  echo "job.sh: $1" >&2
  exit 78
}

write_file() { # NAME < text, whole or not at all
  local new=$1.$BASHPID-$RANDOM.new
  cat >"$new" && mv -f "$new" "$1"
}

# Sets what a mark says; all of it is empty for a job of a version that wrote none.
# shellcheck disable=SC2034
read_mark() { # FILE
  local name value
  generation='' boot='' owner='' installation='' run='' since=0 call='' secret='' folder='' process=''
  [ -f "$1" ] || return 0
  while IFS='=' read -r name value; do
    case $name in
      generation | boot | owner | installation | run | since | call | secret | folder | process) printf -v "$name" %s "$value" ;;
    esac
  done <"$1"
}

# Judges by mark and process: sets state, group, born_at, owner_host, and near, yes for a job on this very host and boot.
judge() { # PROCESS AGE
  local rest=${1#* }
  state=dead near='' group=${1%% *} born_at=${rest%% *} owner_host=${rest#* }
  if ! [[ $group =~ ^[0-9]+$ ]] || ((group < 2)); then
    group=0 state=absent
    return
  fi
  if [ "$owner_host" = "$here_host" ] && [ "${boot:-$here_boot}" = "$here_boot" ]; then
    near=yes
    born "$group"
    if [ -n "$born" ] && [ "$born" = "$born_at" ]; then state=running; fi
  elif (($2 >= 0 && $2 <= STALE_SECONDS)); then
    state=running
  fi
}

# Sets all of that, exit_code and age, from the files of a job.
read_state() { # DIR
  local at='' now line=''
  age=-1 exit_code=''
  read_mark "$1/mark"
  if at=$(stat -c %Y "$1/heartbeat" 2>/dev/null); then
    printf -v now '%(%s)T' -1
    age=$((now - at))
  fi
  [ ! -f "$1/pid" ] || read -r line <"$1/pid" || :
  judge "$line" "$age"
  [ ! -f "$1/exit_code" ] || read -r exit_code <"$1/exit_code" || :
  if [[ $exit_code =~ ^[0-9]+$ ]]; then state=finished; else exit_code=''; fi
}

where() { # prints the job's host and this one, told apart where both have one name
  if [ "$owner_host" != "$here_host" ]; then
    printf '%s, and this is %s' "$owner_host" "$here_host"
  else
    printf 'another host that is called %s, too (boot id %s; this one is %s: cat /proc/sys/kernel/random/boot_id)' \
      "$owner_host" "${boot:0:8}" "${here_boot:0:8}"
  fi
}

# Ends the job that read_state or the mark of a lock has set. Signals nothing that is not proven to be that job's.
stop_processes() {
  [ "$state" = running ] || [ "$state" = dead ] || return 0
  if [ -n "$near" ]; then
    end_marked "$([ "$state" = dead ] || echo "$group")" || die "processes $(marked | tr '\n' ' ')of $folder do not end"
  elif [ "$state" = running ]; then
    die "the job runs on $(where): log in there to stop it"
  fi
}

stop_job() { # DIR [GENERATION] [OWNER]
  read_state "$1"
  folder=$1
  # What runs here now is not what was meant.
  [ -z "${2:-}" ] || [ "$generation" = "$2" ] || return 0
  [ -z "${3:-}" ] || [ "${owner:-$3}" = "$3" ] || die "the job is of another Airflow installation ($installation, run $run)"
  stop_processes
  [ "$state" = absent ] || [ -s "$1/exit_code" ] || echo 143 | write_file "$1/exit_code"
}

# --- the job itself, leader of a session of its own -------------------------------------------------------

# Says whether the folder is still this start's.
is_mine() {
  read_mark "$dir/mark"
  [ "$generation" = "$BEAMFERRY_GENERATION" ]
}

run() { # SCRIPT ARGUMENT...
  local code=0 script
  umask 077
  born $$
  { cat "$dir/mark" && echo "process=$$ $born $here_host"; } | tee "$lock" >"$guard"
  echo "$dir" >"${dir%/*}/lock"
  echo "$$ $born $here_host" | write_file "$dir/pid"
  : >"$dir/heartbeat"
  # The loop ends by itself when its leader is killed: a heartbeat never outlives the job.
  (
    exec 9>&- 7>&- 6>&-
    while kill -0 $$ 2>/dev/null; do
      ! is_mine || : >"$dir/heartbeat"
      # A `sleep` would outlive the loop, and the next start would wait for it as for something that still writes.
      read -r -t "$HEARTBEAT_SECONDS" <> <(:) || :
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
  if ! is_mine; then
    echo "Another start has this folder now: code $code is not written there."
    return
  fi
  [ -z "$secret" ] || rm -f -- "$secret"
  [ -s "$dir/result.json" ] || echo "{\"phase\":\"ended\",\"exit_code\":$code,\"seconds\":0}" | write_file "$dir/result.json"
  echo "$code" | write_file "$dir/exit_code"
}

status() {
  local progress=''
  read_state "$dir"
  [ ! -f "$dir/progress.json" ] || IFS= read -r -d '' progress <"$dir/progress.json" || :
  printf '{"state":"%s","exit_code":%s,"heartbeat_age":%d,"generation":"%s","progress":%s}\n' \
    "$state" "${exit_code:-null}" "$age" "$generation" "${progress:-null}"
}

verb=${1:-}
[ $# -eq 0 ] || shift
dir='' lock='' guard='' own_secret='' destination='' key='' own='' title='' generation_wanted=''
while [ $# -gt 0 ]; do
  case $1 in
    --job) dir=${2:-} && shift 2 ;;
    --lock) lock=${2:-} && shift 2 ;;
    --guard) guard=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --key) key=${2:-} && shift 2 ;;
    --owner) own=${2:-} && shift 2 ;;
    --name) title=${2:-} && shift 2 ;;
    --generation) generation_wanted=${2:-} && shift 2 ;;
    --) shift && break ;;
    *) die "unknown argument: $1" ;;
  esac
done
[ -n "$dir" ] || die "--job is missing"
know_here
case $verb in
  start)
    [ -n "$lock" ] && [ -n "$destination" ] && [ -n "$key" ] && [ -n "$own" ] && [ $# -gt 0 ] ||
      die "start needs --lock, --destination, --key, --owner and a script"
    start "$@"
    ;;
  run)
    [ -n "$lock" ] && [ -n "$guard" ] && [ $# -gt 0 ] || die "run needs --lock, --guard and a script"
    run "$@"
    ;;
  status) status ;;
  stop)
    stop_job "$dir" "$generation_wanted" "$own"
    status
    ;;
  acknowledge)
    read_state "$dir"
    case $state in
      finished) rm -f "$dir/exit_code" "$dir/pid" ;;
      dead | absent) ;;
      *) exit 0 ;;
    esac
    [ -z "$secret" ] || rm -f -- "$secret"
    ;;
  *) die "unknown verb: ${verb:-none}" ;;
esac
