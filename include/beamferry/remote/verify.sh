#!/usr/bin/env bash
# Compares the destination with its source from fresh censuses of both ends.
#
#   verify.sh --work W --streams N --level sizes|sampled|full --samples K --sample-bytes B --seed INT --stall SECONDS
#             --host H --account A --source P --destination D --ssh "ssh -o ..." [--group GID|own] [--exclude PATH]...
#
# Leaves in W/verify: source.census, destination.census, only_source, only_destination, closed (records, see census.sh; the
# last ones of what the group cannot read, "own" being that of each entry),
# sampled and mismatches (paths whose content was compared, and those that differ), unstable (those of the latter that the
# source reads differently each time) and unresolved (paths that differed before and could not be compared). Exit 0 when the comparison
# could be made, whatever it found; 23 when something could not be read, 24 when it went away meanwhile.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/census.sh
. "$here/census.sh"
# shellcheck source=include/beamferry/remote/sampling.sh
. "$here/sampling.sh"
# shellcheck source=include/beamferry/remote/ssh.sh
. "$here/ssh.sh"
begin census 'find|sha256sum'
result_name=verify
require stdbuf fold ssh awk find grep sort uniq sed shuf sha256sum base64 xargs pgrep readlink

# Some forty million names.
readonly CENSUS_BYTES=$((4 * 1024 * 1024 * 1024))
# Bytes in a second, of a facility that is slow and not away.
readonly SLOWEST=$((20 * 1024 * 1024))
largest() { cat "$scratch"/shard.*.sizes | awk '$1 > most { most = $1 } END { printf "%.0f", most }'; }

work='' streams=1 level='' samples=1 sample_bytes=0 seed='' host='' account='' source='' destination='' words=ssh group=''
exclude=()
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --level) level=${2:-} && shift 2 ;;
    --samples) samples=${2:-} && shift 2 ;;
    --sample-bytes) sample_bytes=${2:-} && shift 2 ;;
    --seed) seed=${2:-} && shift 2 ;;
    --host) host=${2:-} && shift 2 ;;
    --account) account=${2:-} && shift 2 ;;
    --source) source=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --ssh) words=${2:-} && shift 2 ;;
    --group) group=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --exclude) exclude+=("${2:-}") && shift 2 ;;
    *) refuse "verify.sh: unknown argument $1" ;;
  esac
done
[[ -n $work && -n $host && -n $account && -n $source && -n $destination ]] ||
  refuse "verify.sh: --work, --host, --account, --source and --destination are needed"
[[ $level =~ ^(sizes|sampled|full)$ ]] || refuse "verify.sh: --level must be sizes, sampled or full"
[[ $streams =~ ^[1-9][0-9]?$ && $samples =~ ^[1-9][0-9]*$ && $sample_bytes$stall =~ ^[0-9]+$ ]] ||
  refuse "verify.sh: --streams, --samples, --sample-bytes and --stall must be numbers"
[[ $level != sampled || $seed =~ ^[0-9]+$ ]] || refuse "verify.sh: --seed must be a number"
[[ $group =~ ^([0-9]+|own|)$ ]] || refuse "verify.sh: --group must be a number or own"

work=$(readlink -m -- "$work")
set_far "$(known_words "$words")" "$account" "$host" "$source"
resolve_destination
out=$work/verify scratch=$work/verify/scratch
rm -rf "$out"
mkdir -p "$scratch"

bytes_chosen=0 files_chosen=0 shards=0 cached=0 unresolved=0
tick() {
  local files
  if [[ $phase == census ]]; then
    # Both ends together, halved: each lists about as much as the other.
    files=$(cat "$scratch"/*.raw 2>/dev/null | tr -cd '\0' | wc -c)
    report 0 0 $((files / 2)) 0
  else
    count_digests
    report $((digested_bytes / 2)) "$bytes_chosen" $((digested_files / 2)) "$files_chosen"
  fi
}

end_badly() { # CODE ERRORS-FILE...
  local code=$1
  shift
  complaints "$@" >>"$errors"
  echo "The comparison ended with code $code."
  finish "$code"
}

# Records of the first that the second does not hold; comm -z is younger (coreutils 8.25) than some hosts.
only_in() { sorted -m "$1" "$2" "$2" | uniq -z -u; }

recall_mismatches "$host:$far_folder"

# What the facility has sent: its listing, and later hashes, each of which stands for a file that was read there.
arrived() {
  if [[ $phase == census ]]; then
    stat -c %s "$scratch/source.raw"
  else
    echo $(($(cat "$scratch"/far.*.log | wc -l) * STALL_BYTES))
  fi 2>/dev/null
}

# --- census -----------------------------------------------------------------------------------------------

start_ticker
census_script "$far_folder" >"$scratch/source.sh"
census_script "$destination" "$out/partials" "$scratch/closed" "${group:+$(readable 4 "$group")}" \
  "${group:+$(readable 5 "$group")}" >"$scratch/destination.sh"
answered "$scratch/source.errors" "$CENSUS_BYTES" "${far[@]}" sh -s < <(
  echo "echo $BEGUN"
  cat "$scratch/source.sh"
) >"$scratch/source.raw" &
far_pid=$!
if [[ -d $destination ]]; then
  sh -s <"$scratch/destination.sh" >"$scratch/destination.raw" 2>"$scratch/destination.errors" &
else
  # Nothing was ever fetched: an empty census says so file by file.
  touch "$scratch/destination.errors" "$out/partials" "$scratch/destination.raw" &
fi
near_pid=$!
far_code=0 near_code=0
wait "$near_pid" || near_code=$?
wait "$far_pid" || far_code=$?
check_stall
for pair in "$far_code source" "$near_code destination"; do
  case ${pair% *} in
    0 | 1) ;;
    66) end_badly 23 "$scratch/${pair#* }.errors" ;;
    *) end_badly "${pair% *}" "$scratch/${pair#* }.errors" ;;
  esac
done
code=0
# find ends with 1 when it could not look into something; what it did see is compared all the same.
if ((far_code || near_code)); then code=$(reading_code "$scratch"/{source,destination}.errors); fi

drop_marks "$scratch/source.raw" || finish 74
sorted -o "$out/source.census" "$scratch/source.raw" 2>>"$errors" &
far_pid=$!
sorted -o "$out/destination.census" "$scratch/destination.raw" 2>>"$errors" || finish 74
wait "$far_pid" || finish 74
rm -f "$scratch"/*.raw
touch "$scratch/closed"
sorted -o "$out/closed" "$scratch/closed" 2>>"$errors" || finish 74
only_in "$out/source.census" "$out/destination.census" >"$out/only_source"
only_in "$out/destination.census" "$out/source.census" >"$out/only_destination"
: >"$out/sampled"
: >"$out/mismatches"
: >"$out/unstable"

# --- content ----------------------------------------------------------------------------------------------

# Prints how many files of a shard were compared; one that an end could not read is left out.
compare_digests() { # NUMBER
  awk -v far="$scratch/far.$1.sums" -v near="$scratch/near.$1.sums" -v sampled="$out/sampled" \
    -v mismatches="$out/mismatches" -v differ="$scratch/differ" '
    BEGIN { RS = "\0" }
    {
      if ((getline a < far) <= 0 || (getline b < near) <= 0) exit 65
      if (a == "-" || b == "-") next
      path = substr($0, 1, index($0, "//") - 1)
      printf "%s%c", path, 0 >> sampled
      if (a != b) {
        printf "%s%c", path, 0 >> mismatches
        printf "%s%c", $0, 0 >> differ
        printf "%s%c", a, 0 >> (differ ".sums")
      }
      compared++
    }
    END { printf "%d\n", compared }' "$scratch/shard.$1"
}

# Reads at the source once more what differs: bytes that come out differently each time are no fault of RDS.
read_again() {
  local code=0
  [[ -s $scratch/differ ]] || return 0
  cp "$scratch/differ" "$scratch/shard.again"
  awk 'BEGIN { RS = "\0" } { print substr($0, index($0, "//") + 5) }' "$scratch/differ" >"$scratch/shard.again.sizes"
  digest far again "$far_folder" "${far[@]}" sh -s || code=$?
  check_stall
  ((code <= 1)) || end_badly "$code" "$scratch/far.again.errors"
  awk -v first="$scratch/differ.sums" -v second="$scratch/far.again.sums" -v unstable="$out/unstable" '
    BEGIN { RS = "\0" }
    {
      if ((getline a < first) <= 0 || (getline b < second) <= 0) exit 65
      if (a != b) printf "%s%c", substr($0, 1, index($0, "//") - 1), 0 >> unstable
    }' "$scratch/differ" || end_badly 65
}

sampled_files=0
choose_files
if [[ -s $scratch/chosen ]]; then
  leave_the_cache
  cut_files "$scratch/chosen"
  stop_ticker
  check_stall
  phase=compare
  # A file's hash comes at its end, and the facility may take longer for one than this host.
  ((stall == 0)) || stall=$((stall + $(largest) / SLOWEST))
  start_ticker
  readers=()
  for ((number = 1; number <= shards; number++)); do
    digest far "$number" "$far_folder" "${far[@]}" sh -s &
    readers+=($!)
    digest near "$number" "$destination" sh -s &
    readers+=($!)
  done
  for reader in ${readers[@]+"${readers[@]}"}; do
    reader_code=0
    wait "$reader" || reader_code=$?
    check_stall
    case $reader_code in
      0) ;;
      1) [[ $code == 23 ]] || code=$(reading_code "$scratch"/{far,near}.*.errors) ;;
      *)
        stop_ticker
        end_children
        end_badly "$reader_code" "$scratch"/{far,near}.*.errors
        ;;
    esac
  done
  : >"$scratch/differ"
  for ((number = 1; number <= shards; number++)); do
    compared=$(compare_digests "$number") || end_badly 65 "$scratch"/{far,near}.*.errors
    sampled_files=$((sampled_files + compared))
  done
  read_again
fi
remember_mismatches "$host:$far_folder"

# --- result -----------------------------------------------------------------------------------------------

stop_ticker
report "$bytes_chosen" "$bytes_chosen" "$files_chosen" "$files_chosen"
complaints "$scratch"/*.errors >>"$errors"
facts=()
for end in source destination; do
  count_census "$out/$end.census"
  facts+=("${end}_files" "$files" "${end}_bytes" "$bytes" "${end}_folders" "$folders" "${end}_links" "$links")
  facts+=("${end}_others" "$others" "${end}_oldest" "$oldest")
done
partials=$(xargs -0 -r -I{} find "$destination/{}" -type f -printf . <"$out/partials" | wc -c)
facts+=(destination_partials "$partials" sampled_files "$sampled_files" sampled_bytes "$bytes_chosen")
facts+=(content_mismatches "$(count_records "$out/mismatches")" unstable "$(count_records "$out/unstable")")
facts+=(unresolved "$unresolved" again_files "$(count_records "$scratch/again")" cached "$cached")
facts+=(only_source "$(count_records "$out/only_source")" only_destination "$(count_records "$out/only_destination")")
facts+=(unsafe_modes "$unsafe_modes" closed "$(count_records "$out/closed")")
rm -rf "$scratch"
echo "The comparison at level $level is made."
finish "$code" "${facts[@]}"
