# shellcheck shell=bash
# What is heard from a facility, bounded in bytes: whoever logs in there may be answered without end. To be sourced.

readonly BEGUN=beamferry-begin
# Of complaints. No tool of ours has more to say that anybody reads.
readonly WORDS_LIMIT=$((8 * 1024 * 1024))
# What a log-in shell may print before it runs what it is asked for: so many pieces of so many bytes.
readonly GREETING_PIECES=64 GREETING_BYTES=1024
# A line that is not cut is at most as long.
readonly LINE_BYTES=200
readonly NO_MARK=80

keep_words() {
  head -c "$WORDS_LIMIT" || :
  cat >/dev/null
}

# Runs a command, and adds to a file what it says on stderr.
heard() { # FILE COMMAND...
  local file=$1
  local -a codes=(0 0)
  shift
  {
    "$@" 2>&1 >&3 3>&- | keep_words >>"$file" 3>&- || codes=("${PIPESTATUS[@]}")
  } 3>&1
  return "${codes[0]}"
}

# Takes from stdin what stands before the mark, and notes it, if it is anything, where there is no mark.
skip_greeting() { # FILE
  local piece said='' pieces=0
  # From a pipe bash reads byte by byte, and so nothing that comes behind the mark.
  while ((pieces++ < GREETING_PIECES)) && IFS= read -r -n "$GREETING_BYTES" piece; do
    [[ $piece != "$BEGUN" ]] || return 0
    said+="$piece "
  done 2>/dev/null
  [[ -z ${said// /} ]] || printf 'beamferry: printed: %s\n' "${said:0:80}" >>"$1"
  return "$NO_MARK"
}

after_greeting() { # FILE
  skip_greeting "$1" || return
  cat
}

bounded() { # BYTES, or none for lines of some length
  if [[ -n $1 ]]; then head -c "$1"; else stdbuf -oL fold -b -w "$LINE_BYTES"; fi
}

# Runs a script of ours at the facility, which says the mark first; prints what comes behind it, up to that many bytes,
# or with none line by line, for somebody who stops at what is too much.
answered() { # FILE BYTES COMMAND...: the file gets complaints
  local -a codes=(0 0 0)
  heard "$1" "${@:3}" | after_greeting "$1" | bounded "$2" || codes=("${PIPESTATUS[@]}")
  # Without a connection there is no mark either.
  ((codes[1] == 0 || codes[0] == 255)) || return "$NO_MARK"
  ((codes[2] == 0)) || return 74
  return "${codes[0]}"
}
