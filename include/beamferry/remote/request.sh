# shellcheck shell=bash
# How the agent is asked. To be sourced.

json_text() { # TEXT: as a JSON string; what else JSON would have escaped, no path of ours holds
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# Prints a request to the agent.
request() { # [KEY TEXT]...
  local separator='{'
  while (($#)); do
    printf '%s"%s":%s' "$separator" "$1" "$(json_text "$2")"
    separator=,
    shift 2
  done
  echo '}'
}
