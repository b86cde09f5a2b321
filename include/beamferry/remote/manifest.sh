#!/usr/bin/env bash
# Writes the SHA-256 of every file at the destination, sorted by path, for `sha256sum -c` in that folder.
#
#   manifest.sh --work W --streams N --destination D [--exclude PATH]... --output FILE
#
# Exit 23 when a file could not be read, 24 when it went away meanwhile: then no manifest is written.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/progress.sh
. "$here/progress.sh"
# shellcheck source=include/beamferry/remote/census.sh
. "$here/census.sh"
begin manifest 'find|sha256sum'
require awk find sort xargs sha256sum pgrep readlink

work='' streams=1 destination='' output=''
exclude=()
while (($#)); do
  case $1 in
    --work) work=${2:-} && shift 2 ;;
    --streams) streams=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --exclude) exclude+=("${2:-}") && shift 2 ;;
    --output) output=${2:-} && shift 2 ;;
    *) refuse "manifest.sh: unknown argument $1" ;;
  esac
done
[[ -n $work && -n $destination && -n $output ]] || refuse "manifest.sh: --work, --destination and --output are needed"
[[ $streams =~ ^[1-9][0-9]?$ ]] || refuse "manifest.sh: --streams must be a number"

work=$(readlink -m -- "$work")
resolve_destination
output=$(readlink -m -- "$output")
# A manifest cannot hold its own hash.
[[ $output != "$destination"/* ]] || exclude+=("${output#"$destination"/}" "${output#"$destination"/}.new")
scratch=$work/manifest
rm -rf "$scratch"
mkdir -p "$scratch"

files_chosen=0 bytes_chosen=0 shards=0
tick() {
  count_digests
  report "$digested_bytes" "$bytes_chosen" "$digested_files" "$files_chosen"
}

# Joins a shard's names and hashes into lines that sha256sum reads: a newline or a backslash in a name is escaped
# and marked by a backslash before the hash; so is a carriage return at the end, which coreutils 9 would cut off.
lines() { # NUMBER
  awk -v sums="$scratch/near.$1.sums" '
    BEGIN { RS = "\0" }
    {
      if ((getline hash < sums) <= 0) exit 65
      # "-" alone would be read as stdin.
      name = substr($0, 1, index($0, "//") - 1)
      if (name == "-") name = "./-"
      mark = ""
      if (name ~ /[\\\n]|\r$/) {
        mark = "\\"
        name = replaced(name, "\\", "\\\\")
        name = replaced(name, "\n", "\\n")
        if (name ~ /\r$/) name = substr(name, 1, length(name) - 1) "\\r"
      }
      printf "%s%s  %s\n", mark, hash, name
    }
    # gsub reads backslashes in its replacement, and each awk in its own way.
    function replaced(text, old, new,   done, at) {
      done = ""
      while (at = index(text, old)) {
        done = done substr(text, 1, at - 1) new
        text = substr(text, at + length(old))
      }
      return done text
    }' "$scratch/shard.$1"
}

census_script "$destination" /dev/null >"$scratch/list.sh"
code=0
sh -s <"$scratch/list.sh" >"$scratch/raw" 2>"$scratch/list.errors" || code=$?
if ((code)); then
  complaints "$scratch/list.errors" >>"$errors"
  case $code in
    1) finish "$(reading_code "$scratch/list.errors")" ;;
    66) finish 23 ;;
    *) finish "$code" ;;
  esac
fi
# Only PATH//f//SIZE of the files is of interest.
sed -zn 's,^\(\([^/]\|/[^/]\)*//f//[0-9]*\)//.*,\1,p' "$scratch/raw" | sorted -o "$scratch/files"
rm -f "$scratch/raw"
cut_files "$scratch/files"
start_ticker

readers=()
for ((number = 1; number <= shards; number++)); do
  digest near "$number" "$destination" sh -s &
  readers+=($!)
done
for reader in ${readers[@]+"${readers[@]}"}; do wait "$reader" || code=$?; done
stop_ticker
if ((code)); then
  complaints "$scratch"/*.errors >>"$errors"
  ((code != 1)) || code=$(reading_code "$scratch"/near.*.errors)
  echo "The manifest ended with code $code."
  finish "$code"
fi

as_data touch -- "$output.new" 2>>"$errors" || finish 11
for ((number = 1; number <= shards; number++)); do lines "$number" || exit; done >"$output.new" 2>>"$errors" || finish 11
mv -f "$output.new" "$output" 2>>"$errors" || finish 11
report "$bytes_chosen" "$bytes_chosen" "$files_chosen" "$files_chosen"
rm -rf "$scratch"
echo "The manifest holds $files_chosen files."
finish 0 files "$files_chosen" bytes "$bytes_chosen"
