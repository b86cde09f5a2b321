# shellcheck shell=bash
# shellcheck disable=SC2154  # transfer.sh sets what is read here
# Large files in byte ranges, side by side, into rsync's own partial folder. To be sourced by transfer.sh.
#
# What is known of a file is kept in W/ranges/KEY, KEY being the hash of its name: first a line with the
# source's size and mtime and the length of a range, then a line with the offset of each range that is there.
# KEY.name holds the name. When all ranges are there, rsync fetches the file with its partial as the basis: its
# checksums prove the whole file and mend what differs, so nothing here has to be trusted.

# Ranges shorter than this spend more on the request than on the bytes.
readonly STAT_BYTES=256
readonly LEAST_RANGE=$((4 * 1024 * 1024))

partial_of() { # NAME: prints where rsync looks for the partial file; names may end in a newline, hence the dot
  local folder=
  [[ $1 != */* ]] || folder=${1%/*}/
  printf '%s/%s.beamferry-partial/%s.' "$destination" "$folder" "${1##*/}"
}

# Asks the far side for size and mtime of all large files at once; a line "plain" where ranges cannot be had.
stat_large() {
  local name
  : >"$work/plan/large.errors"
  {
    printf 'echo %s; LC_ALL=C; export LC_ALL; cd %s || exit 66\n' "$BEGUN" "$(quoted "$far_folder")"
    # GNU dd and stat, or no ranges. Files come through stdin: on a shared host everyone can read the arguments.
    echo 'dd bs=1 count=0 skip=0 iflag=skip_bytes,count_bytes,fullblock </dev/null 2>/dev/null &&'
    echo '  stat -c "%s %.9Y" - </dev/null >/dev/null 2>&1 || { echo plain; exit 0; }'
    while IFS= read -r -d '' name; do
      printf 'stat -c "%%s %%.9Y" - <%s || echo plain\n' "$(quoted "./$name")"
    done <"$work/plan/large"
  } | answered "$work/plan/large.errors" $((STAT_BYTES * (large + 1))) "${far[@]}" sh -s >"$work/plan/large.stat"
}

# Sorts the large files: to W/plan/queue their missing ranges, to shards of their own those that plain rsync
# does better. Prints nothing; adds to `shards`, `ranges_there` (bytes) and `range_files`.
plan_ranges() {
  local name size modified target partial key state header length offset
  local -A have
  while IFS= read -r -d '' name <&3; do
    read -r size modified <&4 || size=plain
    target=$destination/$name
    # What is at the destination is whole, or an older form of which rsync sends but the difference.
    [[ $size =~ ^[0-9]+$ && $modified =~ ^[0-9]+\.[0-9]+$ ]] || size=plain
    if [[ $size == plain || -e $target || -L $target ]]; then
      shards=$((shards + 1))
      printf '%s\0' "$name" >"$(printf '%s/plan/s%06d' "$work" "$shards")"
      continue
    fi
    partial=$(partial_of "$name") partial=${partial%.}
    key=$(printf '%s' "$name" | sha256sum) key=${key%% *}
    state=$work/ranges/$key
    have=() header=''
    if [[ -s $state ]]; then
      {
        read -r header || :
        while read -r offset; do have[$offset]=1; done
      } <"$state"
    fi
    if [[ ! -f $partial || -L $partial || (-n $header && "${header% *}" != "$size $modified") ]]; then
      # Another version of the file began here: its bytes are worth nothing.
      if [[ -e $partial || -L $partial ]]; then
        printf '%s' "$name" >"$state.name"
        ask_agent discard destination "$destination" name "$state.name" >/dev/null || no_destination $?
      fi
      have=() header=''
    fi
    length=${header##* }
    if [[ -z $header ]]; then
      # Eight ranges a stream, of all that there is to do, let the streams end together.
      length=$((bytes_total / (streams * 8) / 1048576 * 1048576))
      ((length <= range_bytes)) || length=$range_bytes
      ((length >= LEAST_RANGE)) || length=$LEAST_RANGE
      # A partial that rsync left when it was stopped is whole as far as it goes.
      if [[ -f $partial ]]; then
        for ((offset = 0; offset + length <= $(stat -c %s -- "$partial"); offset += length)); do have[$offset]=1; done
      fi
      printf '%s' "$name" >"$state.name"
      {
        echo "$size $modified $length"
        for offset in ${have[@]+"${!have[@]}"}; do echo "$offset"; done
      } | put "$state"
    fi
    range_files=$((range_files + 1))
    for ((offset = 0; offset < size; offset += length)); do
      if [[ -n ${have[$offset]:-} ]]; then
        ranges_there=$((ranges_there + (size - offset < length ? size - offset : length)))
      else
        echo "range $key $offset"
      fi
    done
    # For the case that all ranges are there: nobody else would come to it.
    echo "prove $key 0"
  done >>"$work/plan/queue" 3<"$work/plan/large" 4<"$work/plan/large.stat"
}

# The worker's connection for ranges: a shell at the far side that takes requests one by one, so that the
# handshake and the slow start are paid once.
open_ranges() {
  rm -f "$live/$worker.to" "$live/$worker.from"
  mkfifo "$live/$worker.to" "$live/$worker.from"
  : >"$live/$worker.far"
  heard "$live/$worker.far" "${far[@]}" sh -s <"$live/$worker.to" >"$live/$worker.from" &
  far_pid=$! greeted=''
  exec {to}>"$live/$worker.to" {from}<"$live/$worker.from"
  {
    printf 'echo %s; LC_ALL=C; export LC_ALL; cd %s || exit 66\n' "$BEGUN" "$(quoted "$far_folder")"
    # shellcheck disable=SC2016  # meant for the far shell
    printf '%s\n' 'range() {' \
      '  [ "$(stat -c "%s %.9Y" - <"$1")" = "$2" ] || exit 67' \
      '  dd bs=1048576 iflag=skip_bytes,count_bytes,fullblock skip="$3" count="$4" <"$1" 2>/dev/null || exit 68' \
      '}'
  } 1>&"$to" 2>/dev/null || :
}

# Sets far_code to how the far shell ended.
close_ranges() {
  [[ -n $far_pid ]] || return 0
  exec {to}>&- {from}<&-
  far_code=0
  wait "$far_pid" || far_code=$?
  far_pid=''
}

load_range_file() { # KEY: sets name, size, modified, length, partial, request
  [[ $1 != "$loaded" ]] || return 0
  IFS= read -r -d '' name <"$work/ranges/$1.name" || :
  read -r size modified length <"$work/ranges/$1"
  partial=$(partial_of "$name") partial=${partial%.}
  request="range $(quoted "./$name") $(quoted "$size $modified")"
  loaded=$1
}

# Fetches one range and marks it as there; 0 unless the job has to end.
fetch_range() { # KEY OFFSET
  local key=$1 offset=$2 count delay copied lost last code
  [[ ! -e $live/plain.$key ]] || return 0
  load_range_file "$key"
  count=$((size - offset < length ? size - offset : length))
  for delay in $RETRY_DELAYS; do
    [[ -n $far_pid ]] || open_ranges
    printf '%s %d %d\n' "$request" "$offset" "$count" 1>&"$to" 2>/dev/null || :
    copied=0 lost=''
    if [[ -z $greeted ]] && skip_greeting "$live/$worker.far" <&"$from"; then greeted=yes; fi
    # rsync removes an empty partial folder behind it; where that happens in between, it is not there: we try again.
    if [[ -z $greeted ]]; then
      lost=greeting
    elif request destination "$destination" name "$work/ranges/$key.name" offset "$offset" count "$count" |
      sh "$here/agent.sh" range 3<&"$from" 2>"$live/$worker.dd"; then
      # Its last line: "33554432 bytes (34 MB, 32 MiB) copied, ..."
      while read -r last _; do copied=$last; done <"$live/$worker.dd"
    elif code=$? && grep -q ': No such file or directory$' "$live/$worker.dd"; then
      lost=yes
    else
      # Disk full, quota, file too large: rsync's code for it. 70: what is in the way is somebody else's.
      close_ranges
      fail "$((code == 70 ? 70 : 11))" "$live/$worker.dd"
      return 1
    fi
    if [[ $copied == "$count" ]]; then
      echo "$offset" >>"$work/ranges/$key"
      echo "range $count" >>"$log"
      if (($(wc -l <"$work/ranges/$key") > (size + length - 1) / length)); then prove "$key"; fi
      return
    fi
    close_ranges
    case $lost$far_code in
      66 | 67 | 68)
        # Changed, vanished or unreadable by now: rsync's own words on that are the best ones.
        : >"$live/plain.$key"
        prove "$key"
        return
        ;;
    esac
    echo "retry" >>"$log"
    pause "$delay"
  done
  fail "$((far_code == 255 ? 255 : 76))" "$live/$worker.far"
}

# Lets rsync fetch the file with the partial as its basis; once, whoever comes first.
prove() { # KEY
  local key=$1
  [[ -e $work/ranges/$key ]] || return 0
  load_range_file "$key"
  (($(wc -l <"$work/ranges/$key") > (size + length - 1) / length)) || [[ -e $live/plain.$key ]] || return 0
  mkdir "$live/proof.$key" 2>/dev/null || return 0
  printf '%s\0' "$name" >"$live/proof.$key/list"
  # The first of the file's bytes are as good as there: --stats says how many had to come again.
  fetch "$live/proof.$key/list" "$live/proof.$key/stats" --no-whole-file --stats || return
  sed -n 's/^Literal data: \([0-9]*\) bytes$/resent \1/p' "$live/proof.$key/stats" >>"$log"
  echo "proof 1" >>"$log"
  rm -rf "$live/proof.$key" "$work/ranges/$key" "$work/ranges/$key.name"
}
