# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script reads what is set here, and sets what is read
# What the copy holds. To be sourced by the scripts of lftp.
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

# Prints a POSIX shell script that lists the folder at RDS; the second file gets the files and folders of which find's
# words are not so.
census_script() { # FOLDER FILE-FOR-THE-PARTIAL-FOLDERS FILE WORDS-FOR-FILES WORDS-FOR-FOLDERS
  local path kind other=$3 files_well=$4 folders_well=$5
  printf 'LC_ALL=C TZ=UTC0; export LC_ALL TZ; cd %s || exit 66\n' "$(quoted "$1")"
  # %Ts, whole seconds, is not in find's manual: ask before relying on it.
  # shellcheck disable=SC2016  # meant for the far shell
  echo 'case $(find . -maxdepth 0 -printf %Ts) in "" | *[!0-9-]*) exit 77 ;; esac'
  # A folder of that name is the transfer's own.
  printf 'find . -mindepth 1 \\( -type d -name .beamferry-partial -fprint0 %s -prune \\)' "$(quoted "$2")"
  for path in ${exclude[@]+"${exclude[@]}"}; do
    # As in rsync's patterns, a trailing slash means a folder of that name and nothing else.
    kind=''
    [[ $path != */ ]] || kind='-type d '
    # -path takes a pattern; the characters that mean something there stand for themselves.
    path=$(printf '%s' "./${path%/}" | sed 's/[][*?\\]/\\&/g')
    printf ' -o \\( %s-path %s -prune \\)' "$kind" "$(quoted "$path")"
  done
  printf '%s' ' -o -type f -printf "%P//f//%s//%Ts//\0"' "$(unless "$files_well" f "$other")"
  printf '%s' ' -o -type d -printf "%P//d//0//0//\0"' "$(unless "$folders_well" d "$other")"
  printf '%s\n' ' -o -type l -printf "%P//l//0//0//%l\0" -o -printf "%P//o//0//0//\0"'
  [[ -n $folders_well ]] || return 0
  # The folder itself has no name below itself.
  # shellcheck disable=SC2016  # meant for the shell that runs it
  printf 'code=$?\nfind . -maxdepth 0 %s\n' "$(unless "$folders_well" d "$other.itself")"
  # shellcheck disable=SC2016
  printf '[ ! -s %s.itself ] || printf ".//d//0//0//\\0" >>%s\nexit $code\n' "$(quoted "$other")" "$(quoted "$other")"
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

count_records() { tr -cd '\0' <"$1" | wc -c; }

sorted() { LC_ALL=C sort -z -S 64M -T "$scratch" "$@"; }

# What a failed reading means: 24 when files had only gone away in the meantime, else 23. Only lines of the tools that
# read count: a far host may print what it likes on stderr. Names stand before the reason, and may look like one.
reading_code() { # ERRORS-FILE...
  { cat "$@" 2>/dev/null || :; } | awk '
    !/^(find|sha256sum|sh|[^ ]*\/sh): / { next }
    /: No such file( or directory)?\r?$/ { gone = 1; next }
    { other = 1 }
    END { print (gone && !other ? 24 : 23) }'
}
