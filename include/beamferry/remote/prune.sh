#!/usr/bin/env bash
# Removes what nobody needs any more from ~/.beamferry: the scripts of versions that are not used, the lists of beamtimes
# that are verified, the folders of beamtimes that nobody has touched for long.
#
#   prune.sh --home ~/.beamferry --bin FOLDER
#
# Runs once a day, beside a job that starts. Never touches a beamtime whose lock somebody holds, the locks themselves,
# sockets, or anything that this page does not name.
set -euo pipefail
export LC_ALL=C

# A waiting log-in, or a job of another node, may use the scripts of an older version for as long as this.
readonly SCRIPTS_DAYS=30
readonly LISTS_DAYS=7
readonly BEAMTIME_DAYS=90

home='' bin=''
while (($#)); do
  case $1 in
    --home) home=${2:-} && shift 2 ;;
    --bin) bin=${2:-} && shift 2 ;;
    *) echo "prune.sh: unknown argument $1" >&2 && exit 78 ;;
  esac
done
[[ -d $home && -n $bin ]] || { echo "prune.sh: --home and --bin are needed" >&2 && exit 78; }
cd -- "$home"
umask 077
mkdir -p locks
exec 8>>locks/prune
flock -n 8 || exit 0
[[ -z $(find locks/pruned -mtime -1 2>/dev/null) ]] || exit 0
touch locks/pruned

older() { # DAYS PATH...: nothing in there was touched for so long
  local days=$1
  shift
  [[ -z $(find "$@" -mtime "-$days" -print -quit 2>/dev/null) ]]
}

# Whether a job that names these scripts has left a sign of life within the last day; the folder's own age tells the rest.
in_use() { # FOLDER
  local mark
  for mark in jobs/*/*/mark; do
    grep -qxF "scripts=.beamferry/bin/$1" "$mark" 2>/dev/null || continue
    [[ -z $(find "${mark%/*}" -maxdepth 1 -name heartbeat -mtime -1) ]] || return 0
  done
  # Written so that it does not find itself; -q, as processes that end while it looks are an error without it.
  grep -qszE -- "bin/$1[/]" /proc/[0-9]*/cmdline
}

# Whether the last thing that a run did here was a comparison that says verified; a run that has listed since may wait.
is_verified() { # FOLDER
  local verdict
  for verdict in "$1/run/verdict.json" "$1/work/verify/verdict.json"; do
    [[ -s $verdict && ! $1/work/todo -nt $verdict ]] || continue
    ! grep -qE '"outcome": ?"verified"' "$verdict" || return 0
  done
  return 1
}

for folder in bin/*/; do
  folder=${folder%/} name=${folder##*/}
  [[ -d $folder && ! -L $folder && $name != "${bin##*/}" && $name =~ ^[0-9a-f]{16}$ ]] || continue
  older "$SCRIPTS_DAYS" "$folder" || continue
  ! in_use "$name" || continue
  # Without this it counts as not installed: whoever needs it meanwhile brings it anew.
  rm -f -- "$folder/complete"
  rm -rf -- "$folder"
done

for folder in jobs/*/; do
  folder=${folder%/} name=${folder##*/}
  [[ -d $folder && ! -L $folder ]] || continue
  # All three for as long as it takes: no start comes between, nor one of a version that had its lock in the folder.
  exec 9>>"locks/$name.start" 7>>"locks/$name"
  if flock -n 9 && flock -n 7 && { [[ ! -e $folder/lock ]] || flock -n "$folder/lock" true; }; then
    if older "$BEAMTIME_DAYS" "$folder"; then
      rm -rf -- "$folder"
    elif is_verified "$folder" && older "$LISTS_DAYS" "$folder"; then
      # The next run lists afresh before it reads any of these.
      rm -rf -- "$folder"/work/{todo,todo.totals,others,source.census,live,plan,lftp,ranges}
      rm -f -- "$folder"/work/verify/{source.census,destination.census,sampled}
    fi
  fi
  exec 9>&- 7>&-
done
