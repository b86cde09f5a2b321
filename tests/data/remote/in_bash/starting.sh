# shellcheck shell=bash
# shellcheck disable=SC2154  # the sourcing script sets what is read here
# How a job starts, attaches to one that is there, or finds that it has to wait. To be sourced by job.sh.

# Whoever started a job reads how it ended within this time, or does not read it any more.
readonly UNREAD_SECONDS=900

# Prints the words that make a job another one: the script, and what a person or the beamtime's entry chose. Where the
# scripts lie, the password's file and settings of our own change from try to try or from version to version.
call_of() { # SCRIPT ARGUMENT...
  local word skip='' tool=''
  printf '%s\0' "${1##*/}"
  shift
  for word; do
    if [ -n "$skip" ]; then
      skip=''
      continue
    fi
    case $tool$word in
      --secret | --stall | --range-threshold | --range-bytes | --sample-bytes | --modify-window | --ssh | tool-e) skip=yes ;;
      --) tool=tool ;;
      tool--exclude=* | tool--bwlimit=*) printf '%s\0' "$word" ;;
      tool-*) ;;
      *) printf '%s\0' "$word" ;;
    esac
  done
}

# Says whether the living job is the one that is asked for: of this installation, or of a version that named none.
is_wanted() { # CALL OWNER ARGUMENT...
  local wanted=$1
  if [ -n "$generation" ]; then
    [ "$owner" = "$2" ] && [ "$call" = "$wanted" ]
    return
  fi
  [ -n "$near" ] || return 1
  legacy_call "$group"
  ((${#legacy[@]})) && [ "$(call_of "${legacy[@]}" | sha256sum | cut -c1-64)" = "$wanted" ]
}

busy() { # REASON: says whom this start has to wait for, as far as that is known, and ends
  case $folder in */*/*) folder=${folder#"${folder%/*/*}"/} ;; *) folder='' ;; esac
  printf 'busy {"reason":"%s","job":"%s","installation":"%s","run":"%s","since":%d,"host":"%s"}\n' \
    "$1" "$(clean "$folder")" "$installation" "$run" "${since:-0}" "$([ -n "$near" ] || [ -z "$owner_host" ] || where)"
  exit 0
}

present() { # HOW: there is nothing to start
  echo "$1 $generation"
  exit 0
}

# Locks an open file, or returns 1 where somebody else has it locked.
lock_open() { # SECONDS FILE-DESCRIPTOR
  local code=0
  flock -w "$1" "$2" || code=$?
  ((code <= 1)) || die "flock ends with code $code for the locks in ${lock%/*}: the file system of the home folder gives none"
  return "$code"
}

# Takes the locks for all that the job starts, or sets `held` to the one that somebody else has.
take_locks() { # SECONDS
  local fd
  held=''
  exec 9>>"$lock" 7>>"$guard" 6>>"$older"
  for fd in 9 7 6; do
    ! lock_open "$1" "$fd" || continue
    case $fd in 9) held=$lock ;; 7) held=$guard ;; 6) held=$older ;; esac
    exec 9>&- 7>&- 6>&-
    return 1
  done
}

# Sets the state of whoever holds a lock, as it wrote it there.
read_holder() { # LOCK
  local at now age=-1
  folder=''
  if [ "$1" = "$older" ]; then
    read -r folder <"$1" || :
    [ -d "$folder" ] || return 0
    at=$folder
    read_state "$at"
    folder=$at
    return
  fi
  read_mark "$1"
  if at=$(stat -c %Y "$folder/heartbeat" 2>/dev/null); then
    printf -v now '%(%s)T' -1
    age=$((now - at))
  fi
  judge "$process" "$age"
}

start() { # SCRIPT ARGUMENT...
  local wanted word found='' unread=''
  umask 077
  for word; do
    [ "$found" != --secret ] || own_secret=$word
    found=$word
  done
  # The password stays for the job alone that this start begins.
  trap '[ -z "$own_secret" ] || rm -f -- "$own_secret"' EXIT
  mkdir -p "$dir" "${lock%/*}"
  exec 8>"$lock.start"
  lock_open 60 8 || die "another start of this beamtime is taking over a minute"
  wanted=$(call_of "$@" | sha256sum | cut -c1-64)
  older=${dir%/*}/lock
  guard=${lock%/*}/destination-$(readlink -m -- "$destination" | sha256sum | cut -c1-32)
  read_state "$dir"
  folder=$dir
  case $state in
    running)
      ! is_wanted "$wanted" "$own" "$@" || present attached
      [ -n "$generation" ] || busy version
      [ "$owner" = "$own" ] || busy installation
      [ -n "$near" ] || busy host
      stop_processes
      ;;
    finished)
      if [ "$owner" = "$own" ]; then
        if [ "$exit_code $run $call" = "0 $(clean "$key") $wanted" ]; then present finished; fi
      elif [ -n "$owner" ] && ((age >= 0 && age <= UNREAD_SECONDS)); then
        unread=yes
      fi
      ;;
    dead) [ "${owner:-$own}" != "$own" ] || stop_processes ;;
  esac
  if ! take_locks 0; then
    read_holder "$held"
    if [ "$state" = running ] && [ "$folder" = "$dir" ] && is_wanted "$wanted" "$own" "$@"; then
      # Its folder was removed while it ran.
      grep -v '^process=' "$held" | write_file "$dir/mark"
      echo "$process" | write_file "$dir/pid"
      present attached
    fi
    if [ -n "$folder" ]; then
      [ "$state" != running ] || [ -n "$generation" ] || busy version
      [ "${owner:-$own}" = "$own" ] || busy installation
      [ "${folder%/*}" = "${dir%/*}" ] || busy beamtime
      [ "$state" != running ] || [ -n "$near" ] || busy host
      # What an earlier part of this beamtime left: Airflow runs one at a time.
      found=$folder
      stop_processes
      [ ! -d "$found" ] || [ -s "$found/exit_code" ] || [ "$state" = absent ] || echo 143 | write_file "$found/exit_code"
    fi
    if ! take_locks 30; then
      read_holder "$held"
      busy "$([ "$state" = running ] && echo beamtime || echo leftover)"
    fi
  fi
  if [ -n "$unread" ]; then
    read_state "$dir"
    folder=$dir
    busy unread
  fi
  # Somebody may have removed the locks themselves under what still writes.
  for _ in $(seq 50); do
    found=$(writing_to "$guard")
    [ -n "$found" ] || break
    sleep 0.2
  done
  if [ -n "$found" ]; then
    folder='' installation='' run='' since=0 near=yes
    busy leftover
  fi
  sweep
  rm -f "$dir"/{mark,pid,key,call,heartbeat,progress.json,result.json,exit_code,errors,stats,notes,*.new}
  [ ! -e "$dir/log" ] || mv -f "$dir/log" "$dir/log.previous"
  read -r generation </proc/sys/kernel/random/uuid
  printf '%s\n' "generation=$generation" "boot=$here_boot" "owner=$own" "installation=$(clean "$title")" "run=$(clean "$key")" \
    "since=$(date +%s)" "call=$wanted" "secret=$own_secret" "scripts=$bin" "folder=$dir" | write_file "$dir/mark"
  # Versions before this one read these.
  echo "$key" | write_file "$dir/key"
  echo "$wanted" | write_file "$dir/call"
  : >"$dir/log"
  touch -c "$bin/complete"
  BEAMFERRY_GENERATION=$generation BEAMFERRY_DESTINATION=${guard##*/} \
    setsid bash "$0" run --job "$dir" --lock "$lock" --guard "$guard" -- "$@" </dev/null >>"$dir/log" 2>&1 8>&- &
  for _ in $(seq 100); do
    [ ! -s "$dir/pid" ] || break
    sleep 0.1
  done
  [ -s "$dir/pid" ] || die "the job did not start within 10 seconds: see $dir/log"
  trap - EXIT
  echo "started $generation"
  setsid bash "$bin/prune.sh" --home "${lock%/locks/*}" --bin "$bin" \
    </dev/null >/dev/null 2>&1 6>&- 7>&- 8>&- 9>&- &
}

# Removes the passwords that jobs of this beamtime left, now that none of them runs. One that was just handed over is
# of another start, or of a probe.
sweep() {
  local mark
  for mark in "${dir%/*}"/*/mark; do
    [ -f "$mark" ] || continue
    read_mark "$mark"
    [ -z "$secret" ] || [ "$secret" = "$own_secret" ] || rm -f -- "$secret"
  done
  find "${dir%/*}" -maxdepth 2 -type f \( -name 'secret-*' -o -name secret \) -mmin +60 -exec rm -f -- {} +
}
