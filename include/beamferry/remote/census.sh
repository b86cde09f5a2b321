# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script reads what is set here, and sets what is read
# What both ends hold, and the content of chosen files. To be sourced by verify.sh and manifest.sh.
#
# A census is a sorted list of NUL-terminated records PATH//TYPE//SIZE//MTIME//LINKTARGET: find's %P never
# holds '//', so the first one ends the path. TYPE is f, d, l or o (anything else).

# Prints find's words for what a group, a number or "own" for that of each entry, can read: its members are others to
# what belongs to another group.
readable() { # BITS GROUP: the bits as others have them
  if [[ $2 == own ]]; then
    printf -- '-perm -00%d0 ' "$1"
  else
    printf -- '-gid %d -perm -00%d0 -o ! -gid %d -perm -000%d ' "$2" "$1" "$2" "$1"
  fi
}

# Prints the part of find's words that tells of an entry in a file unless what is asked for is so.
unless() { # WORDS TYPE FILE: the type as in a census
  [[ -z $1 ]] || printf -- ' \\( %s-o -fprintf %s "%%P//%s//0//0//\\0" \\)' "$1" "$(quoted "$3")" "$2"
}

# Prints a POSIX shell script that lists a folder, the same for both ends but for records "//" that follow what has a
# mode at the source that RDS is not to have, see drop_marks. With files the folder is the one at RDS; the second one
# gets the files and folders of which find's words are not so.
census_script() { # FOLDER [FILE-FOR-THE-PARTIAL-FOLDERS [FILE WORDS-FOR-FILES WORDS-FOR-FOLDERS]]
  local path kind other=${3:-} files_well=${4:-} folders_well=${5:-} unsafe_file='' unsafe_folder=''
  if (($# < 2)); then
    unsafe_file=' \( ! -perm /6002 -o -printf "//\0" \)' unsafe_folder=' \( ! -perm /4002 -o -printf "//\0" \)'
  fi
  printf 'LC_ALL=C TZ=UTC0; export LC_ALL TZ; cd %s || exit 66\n' "$(quoted "$1")"
  # %Ts, whole seconds, is not in find's manual: ask before relying on it.
  # shellcheck disable=SC2016  # meant for the far shell
  echo 'case $(find . -maxdepth 0 -printf %Ts) in "" | *[!0-9-]*) exit 77 ;; esac'
  # A folder of that name is the transfer's own at RDS; at the source it is data that does not come, and is missing.
  printf '%s' 'find . -mindepth 1 \( -type d -name .beamferry-partial '
  if (($# < 2)); then printf '%s' '-printf "%P//d//0//0//\0" '; else printf -- '-fprint0 %s ' "$(quoted "$2")"; fi
  printf '%s' '-prune \)'
  for path in ${exclude[@]+"${exclude[@]}"}; do
    # As in rsync's patterns, a trailing slash means a folder of that name and nothing else.
    kind=''
    [[ $path != */ ]] || kind='-type d '
    # -path takes a pattern; the characters that mean something there stand for themselves.
    path=$(printf '%s' "./${path%/}" | sed 's/[][*?\\]/\\&/g')
    printf ' -o \\( %s-path %s -prune \\)' "$kind" "$(quoted "$path")"
  done
  printf '%s' ' -o -type f -printf "%P//f//%s//%Ts//\0"' "$unsafe_file" "$(unless "$files_well" f "$other")"
  printf '%s' ' -o -type d -printf "%P//d//0//0//\0"' "$unsafe_folder" "$(unless "$folders_well" d "$other")"
  printf '%s\n' ' -o -type l -printf "%P//l//0//0//%l\0" -o -printf "%P//o//0//0//\0"'
  [[ -n $folders_well ]] || return 0
  # The folder itself has no name below itself.
  # shellcheck disable=SC2016  # meant for the shell that runs it
  printf 'code=$?\nfind . -maxdepth 0 %s\n' "$(unless "$folders_well" d "$other.itself")"
  # shellcheck disable=SC2016
  printf '[ ! -s %s.itself ] || printf ".//d//0//0//\\0" >>%s\nexit $code\n' "$(quoted "$other")" "$(quoted "$other")"
}

# Takes the records "//" out of what was listed, and sets `unsafe_modes` to how many there were: files with a setuid or
# setgid bit, folders with a setuid bit, and both where others may write.
drop_marks() { # RECORDS
  unsafe_modes=$(grep -acxzF // "$1" || :)
  ((unsafe_modes == 0)) || { grep -avxzF // "$1" || :; } | put "$1"
}

# Sets files, bytes, folders, links, others and oldest (mtime, 0 without files) from a census.
count_census() { # CENSUS
  read -r files bytes folders links others oldest < <(awk '
    BEGIN { RS = "\0" }
    {
      split(substr($0, index($0, "//") + 2), field, "//")
      if (field[1] == "f") {
        if (!files++ || field[3] + 0 < oldest) oldest = field[3] + 0
        bytes += field[2]
      } else if (field[1] == "d") folders++
      else if (field[1] == "l") links++
      else others++
    }
    END { printf "%.0f %.0f %.0f %.0f %.0f %.0f\n", files, bytes, folders, links, others, oldest }' "$1")
}

# Prints what was complained of, each line of those that read at RDS with a mark: the tools are the same at both ends.
complaints() { # ERRORS-FILE...
  local file
  for file; do
    case ${file##*/} in
      destination.errors | list.errors | near.*) sed 's/^/RDS: /' "$file" ;;
      *) cat "$file" ;;
    esac
  done 2>/dev/null || :
}

count_records() { tr -cd '\0' <"$1" | wc -c; }

sorted() { LC_ALL=C sort -z -S 64M -T "$scratch" "$@"; }

# Cuts a list of records PATH//f//SIZE into contiguous lists of about equal work, `scratch`/shard.1 ..., with the
# sizes once more, as lines, in shard.1.sizes. Sets shards, files_chosen and bytes_chosen.
cut_files() { # LIST
  read -r files_chosen bytes_chosen < <(awk '
    BEGIN { RS = "\0" }
    { bytes += substr($0, index($0, "//") + 5); files++ }
    END { printf "%.0f %.0f\n", files, bytes }' "$1")
  shards=$(awk -v shards="$streams" -v files="$files_chosen" -v bytes="$bytes_chosen" -v name="$scratch/shard." '
    # Opening a small file costs about as much as reading 64 KiB.
    BEGIN { RS = "\0"; cost = 65536; target = (bytes + files * cost) / shards; shard = 1 }
    {
      size = substr($0, index($0, "//") + 5) + 0
      if (done >= target * shard && shard < shards) { close(name shard); close(name shard ".sizes"); shard++ }
      printf "%s%c", $0, 0 > (name shard)
      printf "%.0f\n", size > (name shard ".sizes")
      done += size + cost
    }
    END { print (NR ? shard : 0) }' "$1")
}

# Prints a POSIX shell script that prints the hash of each file of a list, or a dash where it cannot be read. Names
# go through stdin from end to end and files through redirections: on a shared host everyone can read the arguments
# of everyone's processes. Small files come in eights, as starting sha256sum takes longer than reading one.
digest_script() { # FOLDER LIST END
  [[ $3 != far ]] || echo "echo $BEGUN"
  printf 'LC_ALL=C; export LC_ALL; cd %s || exit 66\n' "$(quoted "$1")"
  # shellcheck disable=SC1003,SC2016  # meant for the shell that runs it
  printf '%s\n' 'command -v sha256sum >/dev/null || exit 77' \
    'one() { sha256sum <"$1" || { echo -; bad=1; }; }' \
    'eight() {' \
    '  { sums=$(sha256sum - /dev/fd/3 /dev/fd/4 /dev/fd/5 /dev/fd/6 /dev/fd/7 /dev/fd/8 /dev/fd/9 \' \
    '      <"$1" 3<"$2" 4<"$3" 5<"$4" 6<"$5" 7<"$6" 8<"$7" 9<"$8"); } 2>/dev/null && echo "$sums" && return' \
    '  for file; do one "$file"; done' \
    '}'
  awk -v quote="'" '
    BEGIN { RS = "\0" }
    {
      at = index($0, "//")
      name = word(substr($0, 1, at - 1))
      if (substr($0, at + 5) + 0 > 1048576) { tell(); print "one" name; next }
      held[++count] = name
      if (count < 8) next
      printf "eight"
      for (i = 1; i <= 8; i++) printf "%s", held[i]
      print ""
      count = 0
    }
    END { tell() }
    function tell() {
      for (i = 1; i <= count; i++) print "one" held[i]
      count = 0
    }
    function word(path,   part, parts, i, text) {
      parts = split(path, part, quote)
      text = " " quote "./" part[1]
      for (i = 2; i <= parts; i++) text = text quote "\\" quote quote part[i]
      return text quote
    }' "$2"
  # shellcheck disable=SC2016
  echo 'exit ${bad:-0}'
}

asked() { # END ERRORS-FILE COMMAND...
  if [[ $1 == far ]]; then answered "$2" '' "${@:3}"; else "${@:3}" 2>>"$2"; fi
}

# Keeps the hashes of one end of a shard, NUL-terminated and in the list's order, in `scratch`/END.NUMBER.sums; the
# size of each file done goes to END.NUMBER.log. Ends with 1 when some could not be read, else with what went wrong.
digest() { # END NUMBER FOLDER COMMAND...
  local end=$1 list=$scratch/shard.$2 out=$scratch/$1.$2 folder=$3 codes=(0 0 0)
  shift 3
  : >"$out.errors"
  digest_script "$folder" "$list" "$end" | asked "$end" "$out.errors" "$@" | awk -v sizes="$list.sizes" -v log_file="$out.log" '
    {
      # "HASH  -", as the file came through a descriptor; anything else is not from sha256sum.
      if ($0 != "-" && (length($1) != 64 || $1 !~ /^[0-9a-f]+$/)) exit 65
      printf "%s%c", $1, 0
      if ((getline size < sizes) <= 0) exit 65
      print size > log_file
      # Large files are told of at once, small ones now and then.
      if (NR % 64 == 0 || size > 1048576) fflush(log_file)
    }' >"$out.sums" 2>>"$errors" || codes=("${PIPESTATUS[@]}")
  case ${codes[2]} in
    0) return "${codes[1]}" ;;
    65) return 65 ;;
    # Only a disk that takes nothing stops awk.
    *) return 74 ;;
  esac
}

# Sets digested_files and digested_bytes from the logs of all digests.
count_digests() {
  read -r digested_files digested_bytes < <(
    cat "$scratch"/*.log 2>/dev/null | awk '{ bytes += $1; files++ } END { printf "%.0f %.0f\n", files, bytes }'
  )
}

# What a failed reading means: 24 when files had only gone away in the meantime, else 23. Only lines of the tools that
# read count: a far host may print what it likes on stderr. Names stand before the reason, and may look like one.
reading_code() { # ERRORS-FILE...
  { cat "$@" 2>/dev/null || :; } | awk '
    !/^(find|sha256sum|sh|[^ ]*\/sh): / { next }
    /: No such file( or directory)?\r?$/ { gone = 1; next }
    { other = 1 }
    END { print (gone && !other ? 24 : 23) }'
}
