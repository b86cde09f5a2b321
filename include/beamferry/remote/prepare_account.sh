#!/usr/bin/env bash
# Prepares the account it runs in. Each step says what it did; what is there already stays as it is.
#
#   prepare_account.sh make [--workspace] [--link NAME TARGET] [--own NAME PARENT] [--key HOST PORT ACCOUNT] [--lftp CA]
#   prepare_account.sh unlink [--link NAME TARGET] [--own NAME PARENT]
#   prepare_account.sh scan [--gate HOST PORT ACCOUNT]
#   prepare_account.sh pin [--gate HOST PORT ACCOUNT] [--host-key "TYPE BASE64"]
#
# Options are steps, done in their order, and may come again; PORT and ACCOUNT may be ''. NAME is below the home folder;
# --own links to the folder below PARENT that has the account's name. CA is PEM text, '' for none. A host key is of the
# gate before it.
#
# Prints lines of fields between tabs, and "end" last:
#   account  NAME  NODE
#   step     STEP  SUBJECT  STATE  PLACE  REASON  DETAIL     REASON only where STATE is "refused"
#   pinned   GATE  FILE  MARKER  TYPE  BASE64                what known_hosts has, MARKER "-" for none
#   shown    GATE  NAME  FILE  TYPE  BASE64                  what the host shows, and where it would be pinned
set -uo pipefail
export LC_ALL=C
umask 077

# A facility that does not answer must not keep a person waiting.
readonly SCAN_SECONDS=30

usage() {
  echo "prepare_account.sh: $1" >&2
  exit 78
}

line() { # FIELD...: what is not printable becomes a blank, so that a field has no tab and a line one line
  local field separator=''
  for field in "$@"; do
    printf '%s%s' "$separator" "$(printf '%s' "$field" | tr -s '\000-\037\177' ' ' | head -c 4000)"
    separator=$'\t'
  done
  printf '\n'
}

tell() { # STEP SUBJECT STATE PLACE [DETAIL]
  line step "$1" "$2" "$3" "$4" '' "${5:-}"
}

refused() { # STEP SUBJECT PLACE REASON [DETAIL]
  line step "$1" "$2" refused "$3" "$4" "${5:-}"
}

# --- the workspace and the links ----------------------------------------------------------------------------

private_folder() { # STEP SUBJECT PLACE
  local words
  if [[ -d $3 ]]; then
    if (((8#$(stat -L -c %a -- "$3") & 8#777) == 8#700)); then
      tell "$1" "$2" was-there "$3"
    elif words=$(chmod 700 -- "$3" 2>&1); then
      tell "$1" "$2" changed "$3"
    else
      refused "$1" "$2" "$3" failed "$words"
    fi
  elif [[ -e $3 || -L $3 ]]; then
    refused "$1" "$2" "$3" not-a-folder
  elif words=$(mkdir -m 700 -- "$3" 2>&1); then
    tell "$1" "$2" made "$3"
  else
    refused "$1" "$2" "$3" failed "$words"
  fi
}

link() { # NAME TARGET
  local place=$HOME/$1 words
  if [[ -L $place ]]; then
    words=$(readlink -- "$place")
    if [[ ${words%/} == "${2%/}" ]]; then
      tell link "$1" was-there "$place" "$2"
    else
      refused link "$1" "$place" other-link "$words"
    fi
  elif [[ -d $place ]]; then
    refused link "$1" "$place" is-folder
  elif [[ -e $place ]]; then
    refused link "$1" "$place" is-file
  elif [[ ! -d $2 ]]; then
    refused link "$1" "$place" no-target "$2"
  elif words=$(ln -s -T -- "$2" "$place" 2>&1); then
    tell link "$1" made "$place" "$2"
  else
    refused link "$1" "$place" failed "$words"
  fi
}

unlink_link() { # NAME TARGET
  local place=$HOME/$1 words
  if [[ -L $place ]]; then
    words=$(readlink -- "$place")
    if [[ ${words%/} != "${2%/}" ]]; then
      refused link "$1" "$place" other-link "$words"
    elif words=$(unlink -- "$place" 2>&1); then
      tell link "$1" removed "$place" "$2"
    else
      refused link "$1" "$place" failed "$words"
    fi
  elif [[ -e $place ]]; then
    refused link "$1" "$place" no-link
  else
    tell link "$1" was-not-there "$place" "$2"
  fi
}

# --- what ssh itself would use ------------------------------------------------------------------------------

# Reads ssh's own settings for a host, as ~/.ssh/config may give it another address, key or known_hosts.
way_label='' way_host='' way_port='' way_name='' way_file='' way_files=() way_keys=() way_words=''
read_way() { # HOST PORT ACCOUNT; 1 with the reason in way_words
  local key value alias='' proxy='' file
  local -a asked=(ssh -G)
  way_label=$1${2:+:$2} way_host='' way_port='' way_file='' way_files=() way_keys=()
  [[ -z $2 ]] || asked+=(-p "$2")
  [[ -z $3 ]] || asked+=(-l "$3")
  way_words=$("${asked[@]}" -- "$1" 2>&1 </dev/null) || return 1
  while read -r key value; do
    case $key in
      hostname) way_host=$value ;;
      port) way_port=$value ;;
      hostkeyalias) alias=$value ;;
      proxyjump | proxycommand) [[ $value == none ]] || proxy=$key ;;
      identityfile) [[ $value == none ]] || way_keys+=("$(expand "$value")") ;;
      userknownhostsfile | globalknownhostsfile)
        for file in $value; do
          [[ $file != none && $file != /dev/null ]] || continue
          file=$(expand "$file")
          [[ $key != user* || -n $way_file ]] || way_file=$file
          way_files+=("$file")
        done
        ;;
    esac
  done <<<"$way_words"
  way_words=$proxy
  [[ -n $way_host && $way_port =~ ^[0-9]+$ ]] || { way_words='it names no host and port' && return 1; }
  way_name=$way_host
  [[ $way_port == 22 ]] || way_name="[$way_host]:$way_port"
  way_name=${alias:-$way_name}
}

expand() { # PATH, as ssh writes it
  # shellcheck disable=SC2088  # it is ssh's word, not ours
  case $1 in
    '~/'*) printf '%s' "$HOME/${1#'~/'}" ;;
    %d/*) printf '%s' "$HOME/${1#%d/}" ;;
    *) printf '%s' "$1" ;;
  esac
}

# --- a key pair ---------------------------------------------------------------------------------------------

# Prints the public key of a private one that ssh can use with nobody there; else 1, and why.
public_of() { # FILE
  local public noted
  if [[ ! -r $1 ]]; then echo unreadable && return 1; fi
  if (((8#$(stat -L -c %a -- "$1") & 8#77) != 0)); then echo modes && return 1; fi
  if ! public=$(ssh-keygen -y -P '' -f "$1" 2>/dev/null </dev/null); then echo passphrase && return 1; fi
  # A key on a token waits for a finger.
  if [[ $public == sk-* ]]; then echo token && return 1; fi
  noted=$(head -n 1 -- "$1.pub" 2>/dev/null)
  # The public file has the comment, if it is this key's.
  if [[ $(words_of "$noted") == "$(words_of "$public")" ]]; then public=$noted; fi
  printf '%s\n' "$public"
}

words_of() { # PUBLIC-KEY: without its comment
  awk '{ print $1, $2 }' <<<"$1"
}

key() { # HOST PORT ACCOUNT
  local file words wish=$HOME/.ssh/id_ed25519 usual=''
  read_way "$@" || { refused key "$way_label" '' ssh-settings "$way_words" && return; }
  for file in "${way_keys[@]}"; do
    [[ $file != "$wish" ]] || usual=yes
    if [[ -e $file ]] && words=$(public_of "$file"); then
      tell key "$way_label" was-there "$file" "$words"
      return
    fi
  done
  # A key that the configuration names and nobody has made yet is made where it is looked for.
  [[ -n $usual || ${#way_keys[@]} -eq 0 ]] || wish=${way_keys[0]}
  if [[ -e $wish ]]; then
    refused key "$way_label" "$wish" "$(public_of "$wish")"
  elif [[ -L $wish || -e $wish.pub || -L $wish.pub ]]; then
    refused key "$way_label" "$wish" half
  elif words=$(mkdir -p -- "${wish%/*}" 2>&1 &&
    ssh-keygen -q -t ed25519 -N '' -C "$account@$node" -f "$wish" 2>&1 </dev/null); then
    tell key "$way_label" made "$wish" "$(<"$wish.pub")"
  else
    refused key "$way_label" "$wish" failed "$words"
  fi
}

# --- host keys ----------------------------------------------------------------------------------------------

# Prints "FILE MARKER TYPE BASE64" between tabs for each line that ssh would believe of a host.
known() {
  local file
  for file in "${way_files[@]}"; do
    [[ -r $file ]] || continue
    ssh-keygen -F "$way_name" -f "$file" 2>/dev/null </dev/null | awk -v file="$file" -v OFS='\t' '
      /^#/ { next }
      /^@/ { print file, $1, $3, $4; next }
      NF >= 3 { print file, "-", $2, $3 }'
  done
}

scan() { # HOST PORT ACCOUNT
  local file marker type key found='' words
  read_way "$@" || { refused host-key "$way_label" '' ssh-settings "$way_words" && return; }
  if [[ -n $way_words ]]; then refused host-key "$way_label" '' proxy "$way_words" && return; fi
  if [[ $way_file != /* || $way_file == *%* ]]; then refused host-key "$way_label" "$way_file" no-known-hosts && return; fi
  while IFS=$'\t' read -r file marker type key; do
    line pinned "$way_label" "$file" "$marker" "$type" "$key"
  done < <(known)
  while read -r _ type key _; do
    [[ $type =~ ^[a-z0-9@.-]+$ && $key =~ ^[A-Za-z0-9+/]+=*$ ]] || continue
    found=yes
    line shown "$way_label" "$way_name" "$way_file" "$type" "$key"
  done < <(timeout "$SCAN_SECONDS" ssh-keyscan -T 10 -t ed25519,ecdsa,rsa -p "$way_port" -- "$way_host" 2>"$errors" </dev/null |
    grep -v '^#' | sort -u -k 2,2)
  words=$(grep -v '^#' "$errors" | tail -n 3)
  [[ -n $found ]] || refused host-key "$way_label" '' no-answer "$way_host port $way_port${words:+: $words}"
}

pin() { # "TYPE BASE64"; for the gate that was read last
  local file marker type key there='' begin='' words
  [[ $1 =~ ^([a-z0-9@.-]+)\ ([A-Za-z0-9+/]+=*)$ ]] || usage "no host key: $1"
  local wanted_type=${BASH_REMATCH[1]} wanted=${BASH_REMATCH[2]}
  while IFS=$'\t' read -r file marker type key; do
    case $marker in
      @revoked)
        if [[ $key == "$wanted" ]]; then refused host-key "$way_label" "$file" revoked "$1" && return; fi
        ;;
      -)
        if [[ $key == "$wanted" ]]; then tell host-key "$way_label" was-there "$file" "$1" && return; fi
        [[ $type != "$wanted_type" ]] || there=$file
        ;;
    esac
  done < <(known)
  # Somebody may have pinned one since the look that a person approved.
  if [[ -n $there ]]; then refused host-key "$way_label" "$there" differs "$1" && return; fi
  # A last line without its end would swallow ours.
  if [[ -s $way_file && -n $(tail -c 1 -- "$way_file") ]]; then begin=$'\n'; fi
  if words=$( (mkdir -p -- "${way_file%/*}" && printf '%s%s %s\n' "$begin" "$way_name" "$1" >>"$way_file") 2>&1); then
    tell host-key "$way_label" made "$way_file" "$1"
  else
    refused host-key "$way_label" "$way_file" failed "$words"
  fi
}

# --- lftp ---------------------------------------------------------------------------------------------------

put_new() { # STEP SUBJECT PLACE TEXT: a new file, whole or not at all
  local words new=$3.new.$$
  if words=$( (printf '%s' "$4" >"$new" && ln -T -- "$new" "$3") 2>&1); then
    tell "$1" "$2" made "$3"
  else
    refused "$1" "$2" "$3" failed "$words"
  fi
  rm -f -- "$new"
}

# Prints which of our lines a file lacks, and which lines of its own undo them: numbers and names, no values, as
# passwords may stand there.
rc_differences() { # FILE, ours on stdin
  awk '
    function plain(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ $/, "", text); return text }
    NR == FNR { ours[++count] = plain($0); next }
    {
      there[plain($0)] = 1
      parts = split($0, part, ";")
      for (i = 1; i <= parts; i++) {
        words = split(plain(part[i]), word, " ")
        if (words < 3 || word[1] != "set") continue
        name = word[2]; value = tolower(word[3])
        gsub(/["\047]/, "", value); sub(/\/.*/, "", name)
        if (name ~ /verify|check-|ssl-force|ssl-allow$|protect-(data|list)/ && value !~ /^(yes|true|on|1|\+)$/ ||
            name ~ /auto-confirm/ && value !~ /^(no|false|off|0|-)$/)
          undone = undone "; take out line " FNR " (" name ")"
      }
    }
    END {
      for (i = 1; i <= count; i++) if (!(ours[i] in there)) lacking = lacking "; add: " ours[i]
      print substr(lacking undone, 3)
    }' - "$1"
}

lftp_files() { # CA
  local folder=$HOME/.lftp ca=$HOME/.lftp/certs/desy.pem rc=$HOME/.lftp/rc text words
  # lftp reads that one only as long as there is no ~/.lftp.
  if [[ ! -e $folder && -e ${XDG_CONFIG_HOME:-$HOME/.config}/lftp/rc ]]; then
    refused rc '' "${XDG_CONFIG_HOME:-$HOME/.config}/lftp/rc" hides
    return
  fi
  if ! words=$(mkdir -p -- "$folder/certs" 2>&1); then refused rc '' "$folder/certs" failed "$words" && return; fi
  text=$'set ssl:verify-certificate yes\nset ssl:check-hostname yes\nset ftp:ssl-allow yes\nset ftp:ssl-force yes\n'
  text+=$'set ftp:ssl-protect-data yes\nset ftp:ssl-protect-list yes\nset sftp:auto-confirm no\ndebug 3\n'
  if [[ -n $1 ]]; then
    # shellcheck disable=SC2088  # lftp itself expands it
    text="set ssl:ca-file ~/.lftp/certs/desy.pem"$'\n'$text
    if [[ ! -e $ca && ! -L $ca ]]; then
      put_new ca '' "$ca" "$1"
    elif cmp -s -- "$ca" <(printf '%s' "$1"); then
      tell ca '' was-there "$ca"
    else
      refused ca '' "$ca" differs
    fi
  fi
  if [[ ! -e $rc && ! -L $rc ]]; then
    put_new rc '' "$rc" "$text"
  elif [[ ! -f $rc || ! -r $rc ]]; then
    refused rc '' "$rc" unreadable
  # How much lftp says is a matter of taste.
  elif words=$(grep '^set ' <<<"$text" | rc_differences "$rc") && [[ -z $words ]]; then
    tell rc '' was-there "$rc"
  else
    refused rc '' "$rc" differs "$words"
  fi
}

# ------------------------------------------------------------------------------------------------------------

verb=${1:-}
[[ $verb =~ ^(make|unlink|scan|pin)$ ]] || usage "make, unlink, scan or pin is needed"
shift
[[ -n ${HOME:-} && -d $HOME ]] || usage "there is no home folder"
account=$(id -un) node=$(uname -n)
errors=$(mktemp)
trap 'rm -f -- "$errors"' EXIT

# Two runs for one account come one after the other.
mkdir -p -- "$HOME/.beamferry" || exit
exec {lock}>>"$HOME/.beamferry/account.lock"
flock -w 120 "$lock" || usage "another run has been preparing this account for two minutes"

line account "$account" "$node"
while (($#)); do
  case $verb:$1 in
    make:--workspace) count=1 ;;
    make:--lftp | pin:--host-key) count=2 ;;
    make:--link | make:--own | unlink:--link | unlink:--own) count=3 ;;
    make:--key | scan:--gate | pin:--gate) count=4 ;;
    *) usage "unknown argument $1 of $verb" ;;
  esac
  (($# >= count)) || usage "$1 needs more words"
  case $verb:$1 in
    make:--workspace)
      private_folder workspace '' "$HOME/.beamferry"
      private_folder workspace '' "$HOME/.beamferry/jobs"
      ;;
    make:--link) link "$2" "$3" ;;
    make:--own) link "$2" "${3%/}/$account" ;;
    unlink:--link) unlink_link "$2" "$3" ;;
    unlink:--own) unlink_link "$2" "${3%/}/$account" ;;
    make:--key) key "$2" "$3" "$4" ;;
    make:--lftp) lftp_files "$2" ;;
    scan:--gate) scan "$2" "$3" "$4" ;;
    pin:--gate) read_way "$2" "$3" "$4" || usage "ssh does not know its way to $2: $way_words" ;;
    pin:--host-key)
      [[ -n $way_label ]] || usage "--gate comes before --host-key"
      pin "$2"
      ;;
  esac
  shift "$count"
done
echo end
