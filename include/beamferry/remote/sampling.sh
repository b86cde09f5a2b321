# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script sets what is read here
# Which files' content is compared. To be sourced after census.sh.

# Files with content that are at both ends with the same size, as PATH//f//SIZE. Cutting off the time keeps the
# order, as the first difference of two records lies before it.
common_files() {
  sed -zn 's,^\(\([^/]\|/[^/]\)*//f//[1-9][0-9]*\)//.*,\1,p' "$1"
}

# Endless bytes that depend on the seed only (Park and Miller's generator), for shuf; the same on every host.
seeded_bytes() {
  awk -v seed="$seed" 'BEGIN {
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for (i = 0; i < 4096; i++) two[i] = substr(letters, int(i / 64) + 1, 1) substr(letters, i % 64 + 1, 1)
    x = seed % 2147483646 + 1
    for (i = 0; i < 20; i++) x = x * 16807 % 2147483647
    for (;;) {
      x = x * 16807 % 2147483647
      high = int(x / 128)
      printf "%s%s", two[int(high / 4096) % 4096], two[high % 4096]
    }
  }' 2>/dev/null | base64 -d 2>/dev/null
}

# Takes files in a random order until there are enough; one that does not fit in what is left of the bytes is
# passed over, but one is always taken.
choose_sample() {
  local record size taken=0 left=$sample_bytes
  while ((taken < samples)) && IFS= read -r -d '' record; do
    size=${record##*//}
    ((taken == 0 || size <= left)) || continue
    printf '%s\0' "$record"
    taken=$((taken + 1)) left=$((left - size))
  done
}

# Writes `scratch`/chosen, records PATH//f//SIZE of files that are at both ends with one size: all of them, a sample, or
# none, and in every case those of `scratch`/remembered, which differed before. Those that are chosen for that alone are
# in `scratch`/again. With everything_again=yes all are chosen, whatever the level is.
choose_files() {
  uniq -z -d <(sorted -m <(common_files "$out/source.census") <(common_files "$out/destination.census")) >"$scratch/common"
  : >"$scratch/again"
  if [[ $level == full || $everything_again == yes ]]; then
    mv "$scratch/common" "$scratch/chosen"
    return
  fi
  : >"$scratch/random"
  if [[ $level == sampled ]]; then
    # More candidates than samples, as some may not fit in the bytes.
    shuf -z -n $((samples * 4)) --random-source=<(seeded_bytes) "$scratch/common" >"$scratch/shuffled"
    choose_sample <"$scratch/shuffled" | sorted -o "$scratch/random"
  fi
  if [[ -s $scratch/remembered ]]; then
    ask_agent select list "$scratch/common" paths "$scratch/remembered" output "$scratch/wanted" >/dev/null || end_badly $?
    only_in "$scratch/wanted" "$scratch/random" >"$scratch/again"
  fi
  sorted -m "$scratch/random" "$scratch/again" -o "$scratch/chosen"
}

# Writes `scratch`/remembered. What a damaged memory held is found by comparing everything.
everything_again=no
recall_mismatches() { # SOURCE, as HOST:PATH
  local code=0
  : >"$scratch/remembered"
  suspect_unflushed "$1"
  ask_agent recall source "$1" destination "$destination" output "$scratch/remembered" >/dev/null || code=$?
  case $code in
    0) ;;
    65) everything_again=yes ;;
    *) end_badly "$code" ;;
  esac
}

# Lets the next reading of what was chosen come from the storage, not from this machine's memory. Sets `cached`: files that
# could not be taken out of it.
leave_the_cache() {
  local answer
  flush_destination
  [[ -d $destination ]] || return 0
  answer=$(ask_agent forget folder "$destination" list "$scratch/chosen") || end_badly $?
  [[ $answer =~ \"kept\":\ ([0-9]+) ]] || end_badly 76
  cached=${BASH_REMATCH[1]}
}

# Settles what is remembered by what was found. Sets `unresolved`, a count.
remember_mismatches() { # SOURCE, as HOST:PATH
  local answer
  answer=$(ask_agent remember source "$1" destination "$destination" folder "$out") || end_badly $?
  [[ $answer =~ \"unresolved\":\ ([0-9]+) ]] || end_badly 76
  unresolved=${BASH_REMATCH[1]}
}
