# shellcheck shell=bash
# shellcheck disable=SC2034  # the sourcing script reads what is set here
# The words of ssh that Airflow's side makes, as the ssh of this host takes them. To be sourced.

# Prints the words without the options that this ssh does not know: they came after it, and nobody can have set them
# in its configuration. -V ends ssh after its options are read, before any configuration and any host.
known_words() { # WORDS
  local -a asked kept
  local at
  read -r -a asked <<<"$1"
  if ! "${asked[@]}" -V >/dev/null 2>&1 </dev/null; then
    kept=("${asked[0]}")
    for ((at = 1; at < ${#asked[@]}; at++)); do
      if [[ ${asked[at]} == -o ]]; then
        at=$((at + 1))
        [[ $("${asked[0]}" -o "${asked[at]}" -V 2>&1 </dev/null) != *'Bad configuration option'* ]] || continue
        kept+=(-o)
      fi
      kept+=("${asked[at]}")
    done
    asked=("${kept[@]}")
  fi
  printf '%s' "${asked[*]}"
}

# Ends with 1 where ssh refuses its own configuration, with its words on stderr: lftp hands on the last of them alone.
check_settings() { # WORDS HOST
  local words
  local -a asked
  read -r -a asked <<<"$1"
  # An older ssh knows no -G, and says so in other words.
  if words=$("${asked[@]}" -G -- "$2" 2>&1 >/dev/null </dev/null); then return 0; fi
  [[ $words == *' bad configuration options'* || $words == *'Bad owner or permissions on '* ]] || return 0
  printf '%s\n' "$words" >&2
  return 1
}
