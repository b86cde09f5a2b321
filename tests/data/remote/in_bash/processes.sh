# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script reads what is set here, and sets what is read
# Which processes are whose: by start time, boot, and a mark in the environment. To be sourced by job.sh.

# Sets what tells this host from every other, and this boot from the one before: two nodes may have one name.
know_here() {
  read -r here_host </proc/sys/kernel/hostname
  read -r here_boot </proc/sys/kernel/random/boot_id
}

# Sets `born`, the start time in clock ticks since boot: with it a number that was given out again is not taken for ours.
# Field 22 of stat; the command name before it may hold anything, so count from the last bracket.
born() { # PID
  local stat=''
  born=''
  { IFS= read -r -d '' stat <"/proc/$1/stat" || :; } 2>/dev/null
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "${1:-Z}" = Z ] || born=${20}
}

clean() { # TEXT: as it may stand in a mark and in JSON
  printf '%s' "${1//[^A-Za-z0-9_.~:+@\/ -]/_}"
}

# Prints the processes on this host whose environment has this value. A process keeps the one that it began with. One
# that sees other files, in a container, may have the same value for another folder.
carrying() { # NAME VALUE
  local pid
  { grep -lszxF -- "$1=$2" /proc/[0-9]*/environ || :; } | cut -d / -f 3 | while read -r pid; do
    if [ "/proc/$pid/ns/mnt" -ef /proc/self/ns/mnt ]; then echo "$pid"; fi
  done
}

# Prints those that may still write to a destination. ssh only hands on, and a shared session may outlive its job.
writing_to() { # DESTINATION'S LOCK
  local pid name
  carrying BEAMFERRY_DESTINATION "${1##*/}" | while read -r pid; do
    { read -r name <"/proc/$pid/comm"; } 2>/dev/null || continue
    [ "$name" = ssh ] || echo "$pid"
  done
}

# Prints the processes of the job that is judged, its orphans too; only these are ever signalled.
marked() {
  local dir=$folder
  if [ -n "$generation" ]; then
    carrying BEAMFERRY_GENERATION "$generation"
    return
  fi
  # A version before this one put the folder alone into the environment, and the leader has it among its arguments.
  case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
  carrying BEAMFERRY_JOB "$dir"
  legacy_call "$group"
  ((${#legacy[@]} == 0)) || [ "$state" != running ] || echo "$group"
}

# Sets `legacy` to script and arguments of a leader that a version before this one started; to nothing if it is none.
legacy_call() { # PID
  local word at=0 past=''
  legacy=()
  while IFS= read -r -d '' word; do
    at=$((at + 1))
    if [ -n "$past" ]; then legacy+=("$word"); fi
    [ "$word" != -- ] || past=yes
    case $at in
      2) [ "${word##*/}" = job.sh ] || return 0 ;;
      3) [ "$word" = run ] || return 0 ;;
      5) [ "$word" = "$folder" ] || return 0 ;;
    esac
  done 2>/dev/null <"/proc/$1/cmdline" || :
}

# Ends all processes of the job that is judged: first asks, then insists. While its leader lives the group is its own.
end_marked() { # GROUP, or nothing where the leader is dead
  local round pid
  local -a pids
  for round in {1..75}; do
    pids=()
    while read -r pid; do pids+=("$pid"); done < <(marked)
    ((${#pids[@]})) || return 0
    case $round in
      1)
        if [ -n "$1" ] && [[ " ${pids[*]} " == *" $1 "* ]]; then
          kill -TERM -- "-$1" 2>/dev/null || :
        else
          kill -TERM "${pids[@]}" 2>/dev/null || :
        fi
        ;;
      50) kill -KILL "${pids[@]}" 2>/dev/null || : ;;
    esac
    sleep 0.2
  done
  return 1
}
