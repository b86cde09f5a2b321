# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script reads what is set here, and sets what is read
# The probe's log-in by lftp: the facility's arguments, settings that leave no default to chance, a password that is in
# no argument and no environment, and lftp's quoting. As lftp_login.py of the agent has them. To be sourced.

# shellcheck source=include/beamferry/remote/ssh.sh
. "$here/ssh.sh"

# The password's file lives as long as the job; a job that was killed leaves it to the sweep of the next start.
far_transport='' far_host='' far_port=0 far_account='' far_root='' far_ca='' far_log_in='' far_secret='' far_words=ssh
# Seconds after which a session is given up; '' where the job itself watches over it.
far_seconds=''

# Takes one of the facility's own arguments with its value; 1 when it is none of them.
far_argument() { # NAME VALUE
  case $1 in
    --transport) far_transport=$2 ;;
    --host) far_host=$2 ;;
    --port) far_port=$2 ;;
    --account) far_account=$2 ;;
    --source) far_root=${2%/} ;;
    --ca-file) far_ca=$2 ;;
    --log-in) far_log_in=$2 ;;
    --secret) far_secret=$2 ;;
    --ssh) far_words=$2 ;;
    *) return 1 ;;
  esac
}

# Ends the job when something of the facility is missing, and sees to it that the password does not outlive the job.
far_ready() {
  local file
  [[ -n $far_host && -n $far_account && $far_port =~ ^[0-9]+$ ]] ||
    refuse "${0##*/}: --host, --port and --account are needed"
  [[ $far_transport =~ ^(ftps|sftp)$ && $far_log_in =~ ^(password|netrc|ssh)$ ]] ||
    refuse "${0##*/}: --transport must be ftps or sftp, --log-in password, netrc or ssh"
  [[ $far_transport != ftps || $far_log_in != ssh ]] || refuse "${0##*/}: FTP knows no ssh log-in"
  [[ $far_log_in != password || -n $far_secret ]] || refuse "${0##*/}: --secret is needed"
  if [[ -n $far_secret ]]; then
    far_secret=$(readlink -m -- "$far_secret")
    trap 'code=$?; rm -f -- "$far_secret"; unexpected "$code"' EXIT
  fi
  if [[ $far_transport == sftp ]]; then
    far_words=$(known_words "$far_words")
    check_settings "$far_words" "$far_host" 2>>"$errors" || finish 67
  fi
  case $far_log_in in
    password)
      [[ -s $far_secret ]] || far_refused "no password for $far_account at $far_host was handed over"
      [[ $far_transport != sftp ]] || write_answer
      ;;
    netrc)
      # Without a password lftp would log in as anonymous.
      file=$HOME/.netrc
      [[ -f $file && ! -L $file ]] || far_refused "there is no $file"
      [[ $(stat -c %a -- "$file") == ?00 ]] || far_refused "$file can be read by others than its owner"
      awk -v host="$far_host" -v account="$far_account" '
        { for (i = 1; i <= NF; i++) word[++words] = $i }
        END {
          for (i = 1; i <= words; i++) {
            if (word[i] == "machine") { here = word[i + 1] == host; login = "" }
            if (here && word[i] == "login") login = word[i + 1]
            if (here && word[i] == "password" && (login == "" || login == account)) found = 1
          }
          exit !found
        }' "$file" || far_refused "$file has no password for $far_account at $far_host"
      ;;
  esac
}

far_refused() { # REASON
  echo "beamferry: no-password: $1" >>"$errors"
  finish 67
}

# lftp keeps what it takes for one answer, and a facility may go on for ever: 2 GB came in 6 s. A folder with a million
# files takes half of this.
readonly LFTP_KIB=1048576
# Where somebody has set less, that stays.
bound_lftp() { ulimit -c 0 -v "$LFTP_KIB" 2>/dev/null || :; }

# As one word of lftp's own language.
lftp_word() { # TEXT
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# Prints the commands that come before all others. Every default that could hurt is set, whatever ~/.lftprc or
# /etc/lftp.conf say; lftp reads them from its stdin, so that no other process sees the password.
lftp_opening() { # [BYTES-PER-SECOND]
  local password=''
  # What an older lftp may not know comes before fail-exit, what must hold after it.
  cat <<'SETTINGS'
set cmd:move-background no
set cmd:interactive no
set cmd:save-rl-history no
set cache:enable no
set bmk:save-passwords no
set net:persist-retries 0
set net:reconnect-interval-multiplier 2
set net:reconnect-interval-max 30
set ftp:ssl-protect-fxp yes
set ftp:fix-pasv-address yes
set ftp:use-mlsd yes
set ftp:use-mdtm yes
set ftp:use-utf8 no
set ftp:list-options ""
set ftp:timezone GMT
set ftp:retry-530 ""
set ftp:retry-530-anonymous ""
set sftp:auto-confirm no
set sftp:max-packets-in-flight 64
set xfer:make-backup no
set xfer:log no
set xfer:use-temp-file no
set cmd:fail-exit yes
set net:timeout 30
set net:max-retries 1
set net:reconnect-interval-base 2
set dns:order "inet inet6"
set dns:fatal-timeout 60
set ftp:passive-mode yes
set ftp:ssl-allow yes
set ftp:ssl-force yes
set ftp:ssl-auth TLS
set ftp:ssl-protect-data yes
set ftp:ssl-protect-list yes
set ssl:verify-certificate yes
set ssl:check-hostname yes
set xfer:clobber yes
set xfer:disk-full-fatal yes
SETTINGS
  [[ -z $far_ca ]] || printf 'set ssl:ca-file %s\n' "$(lftp_word "$far_ca")"
  [[ -z ${1:-} ]] || printf 'set net:limit-rate %d\n' "$1"
  if [[ $far_transport == sftp ]]; then
    printf 'set sftp:connect-program %s\n' "$(lftp_word "$far_words -a -x")"
  fi
  if [[ $far_log_in == password ]]; then
    # bash reads the file itself: no process has it among its arguments.
    password=$(<"$far_secret")
    printf 'open -u %s,%s' "$(lftp_word "$far_account")" "$(lftp_word "$password")"
  else
    printf 'open -u %s%s' "$(lftp_word "$far_account")" "$([[ $far_log_in == netrc ]] || echo ,)"
  fi
  ((far_port == 0)) || printf ' -p %d' "$far_port"
  if [[ $far_transport == ftps ]]; then printf ' %s\n' "ftp://$far_host"; else printf ' %s\n' "sftp://$far_host"; fi
  # One try to log in, and none after it: accounts are locked after a few wrong ones.
  printf 'cd %s\n' "$(lftp_word "${far_root:-/}")"
}

# Runs lftp with the commands on stdin after the log-in.
lftp_session() { # [BYTES-PER-SECOND]
  # shellcheck disable=SC2086  # some words, or none
  { lftp_opening "${1:-}" && cat; } | (bound_lftp && exec ${far_seconds:+timeout -k 5 $far_seconds} lftp --norc)
}

# Runs OpenSSH's sftp with the commands on stdin, logged in as lftp is.
sftp_session() { # SSH-OPTION...
  local batch=yes
  local -a asking=(env -u POSIXLY_CORRECT)
  [[ -z $far_seconds ]] || asking=(timeout -k 5 "$far_seconds" "${asking[@]}")
  if [[ $far_log_in == password ]]; then
    batch=no
    asking+=(DISPLAY=: SSH_ASKPASS="$BASH" BASH_ENV="$(far_question)" SSH_ASKPASS_REQUIRE=force)
  fi
  ((far_port == 0)) || set -- "$@" -o "Port=$far_port"
  # -b would forbid the question: what stands first holds.
  "${asking[@]}" sftp -S "$(command -v ssh)" -o "BatchMode=$batch" -o NumberOfPasswordPrompts=1 -o "User=$far_account" \
    "$@" -b - -- "$far_host"
}

far_question() { printf '%s' "$BEAMFERRY_JOB/question"; }

# Writes what answers ssh's question for the password. ssh has no terminal, so it runs SSH_ASKPASS: this bash, with the
# question as the name of a script. Bash first reads BASH_ENV, which answers. Nothing of ours has to be executable, as
# where our files lie nothing may be executed on some hosts.
write_answer() {
  local file
  file=$(far_question)
  # Any other bash that ssh starts, e.g. for a jump host, goes on as if there were no such file.
  (
    umask 077
    exec >"$file"
    # shellcheck disable=SC2016  # meant for that bash
    printf '%s\n' '[ -z "${BASH_EXECUTION_STRING+set}" ] && [ ! -e "$0" ] && [ "${0##*/}" != bash ] || return 0'
    printf "printf '%%s\\n' \"\$(<%s)\"\nexit 0\n" "$(quoted "$far_secret")"
  )
  [[ $(env -u POSIXLY_CORRECT BASH_ENV="$file" "$BASH" 'a question' 2>/dev/null) == "$(<"$far_secret")" ]] ||
    far_refused "the bash of this host does not read BASH_ENV, by which ssh is told the password"
}
