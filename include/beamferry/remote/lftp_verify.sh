#!/usr/bin/env bash
# Compares the destination with its source from a fresh listing of the one and a census of the other.
#
#   lftp_verify.sh --work W --streams N --level sizes|sampled|full --samples K --sample-bytes B --seed INT
#                  [--limit BYTES-PER-SECOND] --destination D [--group GID|own] [--exclude PATH]... [--folder NAME]... [--tokens yes]
#                  FACILITY'S ARGUMENTS (see lftp.sh)
#
# Leaves in W/verify what the agent's step "verify" does. FTP knows no checksum that all servers have: content is fetched once more and
# compared as it comes, without touching the disk. Exit 0 when the comparison could be made, whatever it found; 23 when
# something could not be read; 24 when files went away or changed meanwhile; the codes of listing.sh and lftp_transfer.sh
# otherwise. $errors then has lftp's own words, and lines of ours:
#   beamferry: changed: PATH          (its content ends elsewhere than the listing said)
#   beamferry: unread: PATH (REASON)  (the copy at the destination)
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/lftp.sh
. "$here/lftp.sh"
# shellcheck source=include/beamferry/remote/listing.sh
. "$here/listing.sh"
# shellcheck source=include/beamferry/remote/connections.sh
. "$here/connections.sh"
# shellcheck source=include/beamferry/remote/census.sh
. "$here/census.sh"
# shellcheck source=include/beamferry/remote/sampling.sh
. "$here/sampling.sh"
begin census 'lftp|sftp|find'
result_name=verify
require lftp ssh sftp awk find sort uniq sed shuf base64 xargs cmp dd sha256sum pgrep ps readlink

work='' level='' samples=1 sample_bytes=0 seed='' destination='' streams=1 limit=0 group=''
exclude=() folders=()
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --level) level=${2:-} && shift 2 ;;
    --samples) samples=${2:-} && shift 2 ;;
    --sample-bytes) sample_bytes=${2:-} && shift 2 ;;
    --seed) seed=${2:-} && shift 2 ;;
    --stall) stall=${2:-} && shift 2 ;;
    --limit) limit=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --group) group=${2:-} && shift 2 ;;
    --exclude) exclude+=("${2:-}") && shift 2 ;;
    --folder) folders+=("${2:-}") && shift 2 ;;
    --tokens) list_tokens=${2:-} && shift 2 ;;
    *) far_argument "$1" "${2:-}" || refuse "lftp_verify.sh: unknown argument $1" && shift 2 ;;
  esac
done
[[ -n $work && -n $destination ]] || refuse "lftp_verify.sh: --work and --destination are needed"
[[ $level =~ ^(sizes|sampled|full)$ ]] || refuse "lftp_verify.sh: --level must be sizes, sampled or full"
[[ $streams =~ ^[1-9][0-9]?$ && $samples =~ ^[1-9][0-9]*$ && $sample_bytes$stall$limit =~ ^[0-9]+$ ]] ||
  refuse "lftp_verify.sh: --streams, --samples, --sample-bytes, --stall and --limit must be numbers"
[[ $level != sampled || $seed =~ ^[0-9]+$ ]] || refuse "lftp_verify.sh: --seed must be a number"
[[ $group =~ ^([0-9]+|own|)$ ]] || refuse "lftp_verify.sh: --group must be a number or own"
far_ready

work=$(readlink -m -- "$work")
resolve_destination
out=$work/verify scratch=$work/verify/scratch live=$work/verify/live
rm -rf "$out"
mkdir -p "$scratch" "$live"

bytes_chosen=0 files_chosen=0 compared_bytes=0 compared_files=0 code=0 cached=0 unresolved=0
tick() {
  local files bytes
  if [[ $phase == census ]]; then
    files=$(listed_entries)
    report 0 0 "$files" 0
  else
    read -r files bytes < <(cat "$live"/out.* 2>/dev/null | awk -v pass="$live/pass" '
      BEGIN { while ((getline line < pass) > 0) { split(line, field, " "); size[++n] = field[2] } }
      /^(same|differs) [0-9]+$/ { bytes += size[$2]; files++ }
      END { printf "%.0f %.0f\n", files, bytes }')
    report $((compared_bytes + bytes)) "$bytes_chosen" $((compared_files + files)) "$files_chosen"
  fi
}

end_with() { # CODE
  echo "The comparison ended with code $1."
  stop_ticker
  finish "$1"
}

end_badly() { # CODE
  end_with "$1"
}

# Records of the first that the second does not hold; comm -z is younger (coreutils 8.25) than some hosts.
only_in() { sorted -m "$1" "$2" "$2" | uniq -z -u; }

recall_mismatches "$far_host:$far_root"

# --- census -----------------------------------------------------------------------------------------------

start_ticker
list_source "$out/source.census"
: >"$out/partials"
: >"$scratch/destination.raw"
if [[ -d $destination ]]; then
  census_script "$destination" "$out/partials" "$scratch/closed" "${group:+$(readable 4 "$group")}" \
    "${group:+$(readable 5 "$group")}" >"$scratch/destination.sh"
  near_code=0
  sh -s <"$scratch/destination.sh" >"$scratch/destination.raw" 2>"$scratch/destination.errors" || near_code=$?
  if ((near_code)); then
    cat "$scratch/destination.errors" >>"$errors"
    ((near_code == 1)) || end_with "$((near_code == 66 ? 23 : near_code))"
    code=$(reading_code "$scratch/destination.errors")
  fi
fi
# What the entry leaves out by choosing folders, or by a rule, is nothing extra when an earlier run has brought it.
wanted() { # RECORDS
  chosen=$(printf '%s\n' ${folders[@]+"${folders[@]}"}) awk -v tokens="$list_tokens" '
    BEGIN {
      # Not by -v, where awk would read a backslash.
      count = split(ENVIRON["chosen"], name, "\n")
      for (i = 1; i <= count; i++) if (name[i] != "") { wanted[name[i]] = 1; choosy = 1 }
      RS = "\0"
    }
    {
      path = substr($0, 1, index($0, "//") - 1)
      first = path
      sub(/\/.*/, "", first)
      is_folder = first != path || $0 ~ /^[^\/]*\/\/d\/\//
      # The dot is the destination itself.
      if (choosy && is_folder && path != "." && !(first in wanted)) next
      if (tokens != "yes" && path ~ /^shared\/asapo-token[^\/]*\.txt$/) next
      printf "%s%c", $0, 0
    }' "$1"
}
wanted "$scratch/destination.raw" | sorted -o "$out/destination.census" 2>>"$errors" || end_with 11
touch "$scratch/closed"
wanted "$scratch/closed" | sorted -o "$out/closed" 2>>"$errors" || end_with 11
only_in "$out/source.census" "$out/destination.census" >"$out/only_source"
only_in "$out/destination.census" "$out/source.census" >"$out/only_destination"
: >"$out/sampled"
: >"$out/mismatches"
: >"$out/unstable"

# --- content ----------------------------------------------------------------------------------------------

# What lftp pipes into, with a file's number: its name is no argument of any process. Both files had one size when they
# were listed: a stream that ends early is a lost connection, of which lftp tells, or else a file that has become
# shorter. As lftp hands all of "sh ... || echo" to a shell, it is this shell's parent.
write_compare() {
  cat >"$live/compare" <<SCRIPT
LC_ALL=C; export LC_ALL
line=\$(sed -n "\$1p" $(quoted "$live/pass"))
copy=$(quoted "$destination")/\${line#* * * }
said=\$({ { cmp - /dev/fd/3; } 3<"\$copy"; } 2>&1) && echo "same \$1" && exit
# lftp waits for ever for a reader that ends before it.
cat >/dev/null
case \$said in
  "- /dev/fd/3 differ"*) echo "differs \$1" ;;
  "cmp: EOF on /dev/fd/3"*) echo "long \$1" >>$(quoted "$live/odd") ;;
  "cmp: EOF on -"*)
    # Killed, it can tell of nothing any more.
    above=\$(ps -o ppid= -p "\$PPID" | tr -d ' ')
    [ "\$(ps -o comm= -p "\${above:-0}")" != lftp ] || echo "short \$1" >>$(quoted "$live/odd")
    exit 1
    ;;
  *)
    printf 'unread %d %s (%s)\n' "\$1" "\${line#* * * }" "\${said##*: }" >>$(quoted "$live/odd")
    exit 1
    ;;
esac
SCRIPT
}

# Adds to the pass's fates: "changed" for a file that is not what was listed, "unread" for one that cannot be read here.
read_odd_fates() {
  # "no N" without a word of lftp before it.
  awk '
    FNR == 1 { words = 0 }
    /^no [0-9]+$/ && !words { print $2 }
    /^(in|(same|differs|no) [0-9]+)$/ { words = 0; next }
    { words = 1 }' "$live"/out.* >"$live/silent"
  awk -v silent="$live/silent" '
    BEGIN { while ((getline line < silent) > 0) quiet[line] = 1 }
    $1 == "unread" { print $1, $2 }
    $1 == "long" || ($1 == "short" && ($2 in quiet)) { print "changed", $2 }' "$live/odd" >>"$live/fates"
  sed -n 's/^unread [0-9]* /beamferry: unread: /p' "$live/odd" >>"$errors"
}

# Has the files of a list read, as connections.sh wants them.
make_pending() { # LIST
  awk 'BEGIN { RS = "\0" }
    { at = index($0, "//"); printf "- %s - %s\n", substr($0, at + 5), substr($0, 1, at - 1) }' "$1" >"$live/pending"
}

# Reads the source once more, and writes a line "HASH PATH" of each file to `live`/sums.TURN.
write_digest() { # TURN
  cat >"$live/compare" <<SCRIPT
LC_ALL=C; export LC_ALL
line=\$(sed -n "\$1p" $(quoted "$live/pass"))
path=\${line#* * * } size=\${line#* } size=\${size%% *}
sum=\$(dd bs=65536 2>$(quoted "$live")/dd.\$1 | sha256sum)
# A stream that ends early is a lost connection, of which lftp tells.
grep -q "^\$size bytes" $(quoted "$live")/dd.\$1 || exit 1
printf '%s %s\n' "\${sum%% *}" "\$path" >>$(quoted "$live/sums.$1")
echo "same \$1"
SCRIPT
}

# Reads at the source twice more what differs: bytes that come out differently each time are no fault of RDS. A file that
# could not be read both times stays a plain difference.
read_again() {
  local turn try
  [[ -s $out/mismatches ]] || return 0
  ask_agent select list "$scratch/chosen" paths "$out/mismatches" output "$scratch/differ" >/dev/null || end_with $?
  for turn in 1 2; do
    : >"$live/sums.$turn"
    write_digest "$turn"
    make_pending "$scratch/differ"
    for try in 1 2 3; do
      [[ -s $live/pending ]] || break
      ((try == 1)) || sleep "$try" || :
      run_pass compare
      drop_fates
    done
  done
  awk -v first="$live/sums.1" '
    BEGIN { while ((getline line < first) > 0) sum[substr(line, 66)] = substr(line, 1, 64) }
    {
      path = substr($0, 66)
      if ((path in sum) && sum[path] != substr($0, 1, 64)) printf "%s%c", path, 0
    }' "$live/sums.2" | sorted -o "$out/unstable"
}

choose_files
if [[ -s $scratch/chosen ]]; then
  leave_the_cache
  make_pending "$scratch/chosen"
  read -r files_chosen bytes_chosen < <(awk '{ bytes += $2 } END { printf "%d %.0f\n", NR, bytes }' "$live/pending")
  write_compare
  stop_ticker
  phase=compare
  start_ticker
  vanished=''
  while [[ -s $live/pending ]]; do
    : >"$live/odd"
    run_pass compare
    read_odd_fates
    for fate in same differs changed; do
      awk -v fate="$fate" -v pass="$live/pass" '
        BEGIN { while ((getline line < pass) > 0) record[++count] = line }
        $1 == fate { print record[$2] }' "$live/fates" >"$live/$fate"
    done
    awk '{ printf "%s%c", substr($0, length($1) + length($2) + length($3) + 4), 0 }' "$live/differs" >>"$out/mismatches"
    cat "$live/same" "$live/differs" >"$live/news"
    awk '{ printf "%s%c", substr($0, length($1) + length($2) + length($3) + 4), 0 }' "$live/news" >>"$out/sampled"
    read -r files bytes < <(awk '{ bytes += $2 } END { printf "%d %.0f\n", NR, bytes }' "$live/news")
    compared_files=$((compared_files + files)) compared_bytes=$((compared_bytes + bytes))
    awk '{ print "beamferry: changed: " substr($0, length($1) + length($2) + length($3) + 4) }' "$live/changed" >>"$errors"
    cat "$live/refused.words" >>"$errors"
    # The name stands behind the reason, and may look like one.
    if sed 's, (\./.*,,' "$live/refused.words" | awk '!/No such file/ { other = 1 } END { exit !other }' || grep -q '^unread' "$live/odd"; then
      code=23
    elif [[ -s $live/refused.words || -s $live/changed ]]; then
      vanished=yes
    fi
    end_pass "$(wc -l <"$live/fates")" 0
  done
  [[ -z $vanished || $code == 23 ]] || code=24
  sorted -o "$out/sampled" "$out/sampled"
  sorted -o "$out/mismatches" "$out/mismatches"
  read_again
fi
remember_mismatches "$far_host:$far_root"

# --- result -----------------------------------------------------------------------------------------------

stop_ticker
report "$compared_bytes" "$bytes_chosen" "$compared_files" "$files_chosen"
facts=()
# From here on it is a count.
unset folders
# shellcheck disable=SC2128
for end in source destination; do
  count_census "$out/$end.census"
  facts+=("${end}_files" "$files" "${end}_bytes" "$bytes" "${end}_folders" "$folders" "${end}_links" "$links")
  facts+=("${end}_others" "$others" "${end}_oldest" "$oldest")
done
partials=$(xargs -0 -r -I{} find "$destination/{}" -type f -printf . <"$out/partials" | wc -c)
facts+=(destination_partials "$partials" sampled_files "$compared_files" sampled_bytes "$compared_bytes")
facts+=(content_mismatches "$(count_records "$out/mismatches")" unstable "$(count_records "$out/unstable")")
facts+=(unresolved "$unresolved" again_files "$(count_records "$scratch/again")" cached "$cached")
facts+=(only_source "$(count_records "$out/only_source")" only_destination "$(count_records "$out/only_destination")")
facts+=(closed "$(count_records "$out/closed")")
facts+=(modify_window "$modify_window" round_folders "$round_folders" lost "$lost")
rm -rf "$scratch" "$live"
echo "The comparison at level $level is made."
finish "$code" "${facts[@]}"
