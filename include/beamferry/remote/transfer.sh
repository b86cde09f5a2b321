#!/usr/bin/env bash
# Fetches what W/todo lists over several connections, then lets one plain rsync go over everything.
#
#   transfer.sh --work W --streams N --range-threshold B --range-bytes B --stall SECONDS
#               --host H --account A --source P --destination D --ssh "ssh -o ..."
#               -- rsync ARGUMENT... -- SOURCE DESTINATION
#
# The finishing pass brings folders, links, attributes and whatever changed since the dry run; its exit code
# is the job's, its --stats text is in $BEAMFERRY_JOB/stats. Other codes: that of the rsync or ssh that did not
# get through after retries, 11 disk full, 75 nothing moved for --stall seconds, 76 ranges or a worker failed.
# Stopped at any moment, the next start goes on from the partial files and the ranges that are there.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/ranges.sh
. "$here/ranges.sh"
# shellcheck source=include/beamferry/remote/ssh.sh
. "$here/ssh.sh"
begin transfer 'rsync|dd'
require rsync ssh awk find flock pgrep readlink dd stat sha256sum

# Far sshds refuse some of many connections that arrive together (MaxStartups 10:30:100 is OpenSSH's default):
# the streams start a little apart, and each tries again by itself before the job gives up.
readonly START_SPREAD=0.05
readonly RETRY_DELAYS="1 4 12"
# Above this size a file always comes in ranges: a host that loses power costs at most this much of one file.
readonly ALWAYS_RANGES=$((16 * 1024 * 1024 * 1024))

work='' streams=1 range_threshold=0 range_bytes=$((64 * 1024 * 1024))
host='' account='' source='' destination='' words=ssh
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --range-threshold) range_threshold=${2:-} && shift 2 ;;
    --range-bytes) range_bytes=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --host) host=${2:-} && shift 2 ;;
    --account) account=${2:-} && shift 2 ;;
    --source) source=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --ssh) words=${2:-} && shift 2 ;;
    --) shift && break ;;
    *) refuse "transfer.sh: unknown argument $1" ;;
  esac
done
[[ -n $work && -n $host && -n $account && -n $source && -n $destination && $# -ge 4 ]] ||
  refuse "transfer.sh: --work, --host, --account, --source, --destination and rsync's command are needed"
[[ $streams =~ ^[1-9][0-9]?$ && $range_threshold =~ ^[0-9]+$ && $range_bytes =~ ^[1-9][0-9]*$ && $stall =~ ^[0-9]+$ ]] ||
  refuse "transfer.sh: --streams, --range-threshold, --range-bytes and --stall must be numbers"
[[ -s $work/todo.totals && -e $work/todo ]] || lists_are_gone "$work"

work=$(readlink -m -- "$work")
# OpenSSH's first choice, ChaCha20, takes twice the processor time of AES where the processor has AES built in (2.4 s
# against 1.2 s per GiB, both ends together, OpenSSH 9.2). A choice that somebody made in the configuration stays.
prefer_aes() {
  local first=^aes128-gcm@openssh.com settings
  grep -qw aes /proc/cpuinfo || return 0
  read -r -a ssh <<<"$words"
  settings=$("${ssh[@]}" -G -- "$host" 2>/dev/null) || return 0
  [[ $'\n'$settings == *$'\n'"ciphers chacha20"* ]] || return 0
  # "^", before the others, came with OpenSSH 8.1; the far side may still choose any of the others.
  "${ssh[@]}" -G -o "Ciphers=$first" -- "$host" >/dev/null 2>&1 || return 0
  words+=" -o Ciphers=$first"
}

# The command without its last three words (-- SOURCE DESTINATION).
words=$(known_words "$words")
prefer_aes
lead "$words" "${@:1:$#-3}"
rsync=("${led[@]}")
set_far "$words" "$account" "$host" "$source"
readonly TEMPORARY=.beamferry-partial/.beamferry-temporary
prepare_destination "$TEMPORARY"
note_unflushed

# rsync's unfinished files are kept in one folder of their own: what a kill -9 leaves there is found and removed,
# and the sizes of what is there show how far the streams are. It lies in the partial folder, which nothing lists.
# Each stream has its own below it: creating files in one folder, they would wait for each other.
temporary=$destination/$TEMPORARY
rsync_source=${*:$#-1:1}

# shellcheck disable=SC2329  # by `heard`
bring() { # [ARGUMENT...] of rsync
  (enter_destination && become_data "${rsync[@]}" "$@" -- "$rsync_source" ./)
}

live=$work/live
shards=0 large=0 range_files=0 ranges_there=0

# --- the units of work ------------------------------------------------------------------------------------

pause() { # SECONDS, and a little more for each worker, so that they do not come back together
  sleep "$1.$((worker % 10))"
}

# Notes the first failure that ends the job, with what the tool said of it.
fail() { # CODE FILE
  if mkdir "$live/failed" 2>/dev/null; then
    cat "$2" >>"$errors"
    echo "$1" | put "$live/failed/code"
  fi
  return 1
}

# One rsync for the files of a list, tried again when its connection breaks; 0 unless the job has to end.
fetch() { # LIST OUTPUT [ARGUMENT...]
  local list=$1 output=$2 delay code
  shift 2
  for delay in $RETRY_DELAYS ''; do
    code=0
    # The finishing pass sets the folders' times; doing it here would let the streams undo each other's.
    : >"$live/$worker.errors"
    heard "$live/$worker.errors" bring --omit-dir-times --no-inc-recursive --temp-dir="$TEMPORARY/$worker" \
      --files-from="$list" --from0 "$@" >>"$output" || code=$?
    case $code in
      # Some files vanished or could not be read: the finishing pass meets them again and says so.
      0 | 23 | 24) return 0 ;;
      5 | 10 | 12 | 30 | 35 | 255) [[ -n $delay ]] || break ;;
      *) break ;;
    esac
    [[ ! -e $live/failed ]] || return 1
    echo "retry" >>"$log"
    pause "$delay"
  done
  fail "$code" "$live/$worker.errors"
}

# Each file is in the stream's output as soon as it is there; a whole shard is summed up in one line of the log.
fetch_shard() { # SHARD
  fetch "$work/plan/$1" "$live/shard.$worker" --outbuf=L --out-format='%i %l %b' || return
  mv "$live/shard.$worker" "$live/summed.$worker"
  awk '/^>f/ { bytes += $2; files++ } END { printf "files %.0f %d\n", bytes, files }' "$live/summed.$worker" >>"$log"
  rm -f "$work/plan/$1" "$live/summed.$worker"
}

# Takes units from the queue until there are none. All workers read through one open file, so each line is
# taken once; the lock, opened by each for itself, keeps two from reading at the same time.
work_through() { # WORKER
  local worker=$1 kind key value far_pid='' far_code=0 greeted='' loaded='' log=$live/log.$1 to from
  local name size modified length partial request queue_lock
  # A far shell that went away, or a file too large for its disk, is to be an error and not the worker's end.
  trap '' PIPE XFSZ
  # Nobody else can write in there.
  mkdir -p -- "$temporary/$worker"
  sleep "$(awk -v n="$worker" -v step="$START_SPREAD" 'BEGIN { print n * step }')"
  # The queue is not filled yet: the handshake goes on while the far side is asked about the large files.
  ((large == 0)) || open_ranges
  while [[ ! -e $live/failed ]]; do
    exec {queue_lock}>"$work/plan/lock"
    flock "$queue_lock"
    read -r kind key value <&"$queue" || kind=end
    exec {queue_lock}>&-
    [[ $kind == range ]] || close_ranges
    case $kind in
      range) fetch_range "$key" "$value" || break ;;
      prove) prove "$key" || break ;;
      shard)
        fetch_shard "$key" || break
        ;;
      end) break ;;
    esac
  done
  close_ranges
}

# --- plan -------------------------------------------------------------------------------------------------

# Cuts the to-do list into shards and large files.
cut_list() {
  local threshold
  rm -rf "$work/plan"
  mkdir -p "$work/plan" "$work/ranges" "$live"
  # Files that an earlier start of this same to-do list finished count as done; ranges are counted afresh.
  cat "$live"/log.* "$live"/shard.* 2>/dev/null | grep -E '^(>f|files )' >"$work/plan/log.before" || :
  rm -rf "$live"
  mkdir -p "$live"
  mv "$work/plan/log.before" "$live/log.before"

  # With many large files each stream has whole ones to fetch, and ranges would only cost the reading of each
  # file once more: they pay where a file is more than an eighth of a stream's share.
  threshold=$((bytes_total / (streams * 8)))
  ((threshold <= ALWAYS_RANGES)) || threshold=$ALWAYS_RANGES
  ((threshold >= range_threshold)) || threshold=$range_threshold
  ((range_threshold > 0 && streams > 1)) || threshold=0
  awk -v folder="$work/plan" -v streams="$streams" -v bytes="$bytes_total" -v files="$files_total" \
    -v threshold="$threshold" -f "$here/shards.awk" "$work/todo" >"$work/plan/counts" 2>>"$errors" || finish $?
  read -r shards large <"$work/plan/counts"

  : >"$work/plan/queue"
}

# Puts all units into the queue: ranges first, as the proof of their files then runs while other streams still
# have shards to fetch.
fill_queue() {
  local delay code=0 number
  if ((large)); then
    for delay in $RETRY_DELAYS ''; do
      code=0
      stat_large || code=$?
      ((code == 255)) && [[ -n $delay ]] || break
      sleep "$delay"
    done
    if ((code == 255)); then
      fail 255 "$work/plan/large.errors" || return 0
    fi
    plan_ranges
  fi
  for ((number = 1; number <= shards; number++)); do printf 'shard s%06d 0\n' "$number"; done >>"$work/plan/queue"
}

# --- progress ---------------------------------------------------------------------------------------------

# What the workers' logs say, and what is on its way: sets done_bytes, done_files and the counters of the result.
count_done() {
  read -r fetched_bytes done_files ranges retries resent < <(
    cat "$live"/log.* "$live"/shard.* 2>/dev/null | awk '
      /^>f/ { bytes += $2; files++ }
      $1 == "files" { bytes += $2; files += $3 }
      $1 == "range" { bytes += $2; ranges++ }
      $1 == "proof" { files++ }
      $1 == "retry" { retries++ }
      $1 == "resent" { resent += $2 }
      END { printf "%.0f %d %d %d %.0f\n", bytes, files, ranges, retries, resent }'
  )
  done_bytes=$((fetched_bytes + ranges_there))
}

tick() {
  local -i flying=0
  local pid key value
  count_done
  # Files on their way, and what the dd of each range has written so far.
  flying=$(find "$temporary" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f", sum }') || :
  for pid in $(pgrep -g 0 -x dd || :); do
    while read -r key value; do
      [[ $key != wchar: ]] || flying=$((flying + value))
    done 2>/dev/null <"/proc/$pid/io" || :
  done
  report $((done_bytes + flying)) "$bytes_total" $((done_files < files_total ? done_files : files_total)) "$files_total"
}

end_with() { # CODE RSYNC_EXIT
  count_done
  finish "$1" rsync_exit "$2" streams "$streams" bytes "$fetched_bytes" files "$done_files" shards "$shards" \
    ranges "$ranges" range_files "$range_files" retries "$retries" resent_bytes "$resent"
}

# As progress.sh's, with the counters.
check_stall() {
  [[ -e $BEAMFERRY_JOB/stalled ]] || return 0
  echo "Nothing moved for $stall seconds: the streams were stopped."
  end_with 75 -1
}

# --- the job ----------------------------------------------------------------------------------------------

read -r files_total bytes_total <"$work/todo.totals"
cut_list
# What a killed rsync left: no other job of this beamtime runs, the lock sees to that.
(enter_destination && find "$TEMPORARY" -mindepth 1 -delete) 2>>"$errors" || no_destination $?
count_done
# The rate is of what this start brings.
reported_bytes=$done_bytes
start_ticker

if ((shards + large)); then
  : >"$work/unswept"
  exec {queue}<"$work/plan/queue" {gate}>"$work/plan/lock"
  flock "$gate"
  workers=()
  for ((number = 0; number < streams; number++)); do
    (trap - TERM INT EXIT && work_through "$number") &
    workers+=($!)
  done
  fill_queue
  flock -u "$gate"
  lost=0
  for worker in "${workers[@]}"; do wait "$worker" || lost=1; done
  check_stall
  if [[ -s $live/failed/code ]]; then
    code=$(cat "$live/failed/code")
    echo "The streams ended with code $code."
    end_with "$code" "$((code < 75 || code == 255 ? code : -1))"
  fi
  ((lost == 0)) || end_with 76 -1
  echo "The streams fetched what the dry run had found."
fi

# A copy that another account has made keeps its permissions, which are its owner's to change; the comparison tells what
# the group cannot read of it. Where nothing else was wrong, nothing is missing; without a word, or where the words were
# cut, nobody knows that. Each of rsync's messages is one line, and begins before the name.
forgive_foreign_modes() {
  local foreign='^rsync: (\[generator\] |\[receiver\] )?(failed to set permissions on|chgrp) ".*: Operation not permitted \(1\)$'
  ((code == 23 && $(stat -c %s "$live/finish.errors") < WORDS_LIMIT)) && grep -qaE "$foreign" "$live/finish.errors" || return 0
  ! grep -qavE "$foreign|^rsync error: some files/attrs were not transferred|^$" "$live/finish.errors" || return 0
  code=0
  echo "Copies of other accounts keep their permissions: $(grep -caE "$foreign" "$live/finish.errors" || :)"
  : >"$live/finish.errors"
}

code=0
: >"$live/finish.errors"
heard "$live/finish.errors" bring --stats --temp-dir="$TEMPORARY" >"$live/finish" &
wait $! || code=$?
forgive_foreign_modes
cat "$live/finish.errors" >>"$errors"
check_stall
sed -n '/^Number of files: /,$p' "$live/finish" | put "$BEAMFERRY_JOB/stats"
sed '/^Number of files: /,$d; 201,$d' "$live/finish" | put "$BEAMFERRY_JOB/notes"

(enter_destination && rmdir -- "$TEMPORARY"/* "$TEMPORARY" "${TEMPORARY%/*}") 2>/dev/null || :
# Everything is whole now, so no partial file is of use to anyone. A run that fetched nothing left none.
if ((code == 0)) && [[ -e $work/unswept ]]; then
  (enter_destination && find . -type d -name .beamferry-partial -prune -exec rm -rf -- {} +) 2>>"$errors" || :
  rm -rf "$work/unswept" "$work/ranges"
fi
flush_destination
stop_ticker
if ((code == 0)); then report "$bytes_total" "$bytes_total" "$files_total" "$files_total"; fi
echo "The finishing pass ended with code $code."
end_with "$code" "$code"
