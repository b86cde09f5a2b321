#!/usr/bin/env bash
# Looks whether lftp can fetch a beamtime: tools here, the destination, the certificate, the log-in and what it shows.
#
#   lftp_probe.sh --destination-root R --destination D --beamtime ID FACILITY'S ARGUMENTS (see lftp.sh)
#
# Prints KEY=VALUE lines as probe.sh does, "end=yes" last. Logs in once: a wrong password is not tried again.
set -uo pipefail
export LC_ALL=C
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/probe_here.sh
. "$here/probe_here.sh"
# shellcheck source=include/beamferry/remote/lftp.sh
. "$here/lftp.sh"

# What is larger is no metadata; the rest of a README is for an editor.
readonly METADATA_BYTES=65536
readonly README_BYTES=8192
readonly LOG_IN_SECONDS=90
# What the log-in may write to the host's /tmp, in KiB, and to our answer.
readonly SCRATCH_KIB=65536
readonly FOLDERS_BYTES=30000
readonly LISTED=beamferry-listed

root='' destination='' beamtime='' scratch=''

# lftp.sh ends jobs by these; a probe has no job and tells what it knows all the same.
refuse() { # SENTENCE
  echo "$1" >&2
  exit 78
}
finish() { # CODE
  tell_log_in "$1"
  echo end=yes
  exit 0
}
# shellcheck disable=SC2329  # lftp.sh calls it at the end
unexpected() { # CODE
  [[ -z $scratch ]] || rm -rf -- "$scratch"
}
quoted() { # TEXT: as one word of a POSIX shell
  printf "'%s'" "${1//\'/\'\\\'\'}"
}

while (($#)); do
  case $1 in
    --destination-root) root=${2:-} && shift 2 ;;
    --destination) destination=${2:-} && shift 2 ;;
    --beamtime) beamtime=${2:-} && shift 2 ;;
    *) far_argument "$1" "${2:-}" || refuse "lftp_probe.sh: unknown argument $1" && shift 2 ;;
  esac
done
[[ -n $root && -n $destination && -n $beamtime ]] ||
  refuse "lftp_probe.sh: --destination-root, --destination and --beamtime are needed"

scratch=$(umask 077 && mktemp -d)
trap unexpected EXIT
errors=$scratch/errors BEAMFERRY_JOB=$scratch
: >"$errors"

tell_log_in() { # CODE
  say far_exit "$1"
  say_lines far_errors "$errors"
}

# What the server shows before anybody logs in: whether its certificate is good, and until when.
probe_certificate() {
  local text=$scratch/certificate
  local kind=hostname
  local -a trusted=()
  [[ ! $far_host =~ ^[0-9.]+$ ]] || kind=ip
  command -v openssl >/dev/null || return 0
  [[ -z $far_ca ]] || trusted=(-CAfile "$far_ca")
  timeout 30 openssl s_client -starttls ftp -connect "$far_host:$((far_port ? far_port : 21))" -servername "$far_host" \
    "-verify_$kind" "$far_host" ${trusted[@]+"${trusted[@]}"} >"$text" 2>/dev/null </dev/null || :
  grep -q 'BEGIN CERTIFICATE' "$text" || return 0
  say cert_code "$(sed -n 's/^ *Verify return code: \([0-9]*\).*/\1/p' "$text" | tail -n 1)"
  say cert_text "$(sed -n 's/^ *Verify return code: [0-9]* (\(.*\))$/\1/p' "$text" | tail -n 1)"
  say cert_issuer "$(openssl x509 -in "$text" -noout -issuer -nameopt RFC2253 2>/dev/null | sed 's/^issuer= *//')"
  say cert_names "$(openssl x509 -in "$text" -noout -text 2>/dev/null | sed -n '/Subject Alternative Name/{n;p;}' | sed 's/IP Address:/DNS:/g; s/DNS://g; s/^ *//')"
  say cert_ends "$(date -d "$(openssl x509 -in "$text" -noout -enddate 2>/dev/null | cut -d= -f2)" +%s 2>/dev/null)"
}

# Over FTP by lftp, which also shows whether it and the server understand each other.
look_by_lftp() (
  ulimit -c 0 -f "$SCRATCH_KIB"
  {
    echo 'set cmd:cls-default ""'
    echo 'cls -1aB --perms "./"'
    echo "echo $LISTED"
    echo 'set cmd:fail-exit no'
    echo "get $1 -o $(lftp_word "$scratch/metadata")"
    echo "get $2 -o $(lftp_word "$scratch/readme")"
  } | lftp_session >"$scratch/listing" 2>"$errors"
)

# Over SFTP by OpenSSH, whose words name what is wrong with a key or a host.
look_by_sftp() (
  read -r -a words <<<"$far_words"
  ulimit -c 0 -f "$SCRATCH_KIB"
  {
    printf 'cd %s\n' "$(lftp_word "${far_root:-/}")"
    echo 'ls -lan'
    echo 'pwd'
    echo "-get $1 $(lftp_word "$scratch/metadata")"
    echo "-get $2 $(lftp_word "$scratch/readme")"
  } | sftp_session "${words[@]:1}" >"$scratch/long" 2>"$errors" || code=$?
  # PERMISSIONS LINKS USER GROUP SIZE MONTH DAY TIME NAME, the name as OpenSSH shows it.
  sed -nE "s/^([-dlbcps][^ ]*) +[^ ]+ +[^ ]+ +[^ ]+ +[0-9]+ +[^ ]+ +[^ ]+ +[^ ]+ (.*)\$/\1 \2/p; s/^Remote working directory: .*/$LISTED/p" \
    "$scratch/long" >"$scratch/listing"
  exit "${code:-0}"
)

# Folders with a slash behind each name, as no name holds one; of files those by which a beamtime is known.
tell_listing() {
  say source_listed yes
  awk -v mark="$LISTED" -v room="$FOLDERS_BYTES" '
    $0 == mark { next }
    {
      name = substr($0, index($0, " ") + 1)
      sub(/^ +/, "", name)
      gsub(/[\001-\037\177]/, " ", name)
      if (name == "." || name == "..") next
      if (substr($0, 1, 1) != "d") {
        files++
        if (name ~ /^beamtime-metadata-[A-Za-z0-9_]+\.json$/) known = known name "/"
      } else if (length(folders) + length(name) < room) folders = folders name "/"
      else cut++
    }
    END {
      printf "folders=%s\nfolders_cut=%d\nfiles=%d\nmetadata_files=%s\n", folders, cut, files, substr(known, 1, 1000)
    }' "$scratch/listing"
}

say lftp "$(command -v lftp >/dev/null && first_line lftp --version | sed 's/ | / /; s/ | .*//')"
say openssl "$(command -v openssl >/dev/null && first_line openssl version)"
probe_tools lftp sftp timeout cmp ps
(trap - EXIT && probe_destination)
say near_time "$(date +%s)"
for tool in lftp sftp timeout; do command -v "$tool" >/dev/null || finish 77; done
if [[ $far_transport == ftps ]]; then probe_certificate; fi
far_seconds=$LOG_IN_SECONDS
far_ready
metadata="./beamtime-metadata-$beamtime.json" readme=./README.non-conformant-files.txt
code=0
if [[ $far_transport == ftps ]]; then
  look_by_lftp "$(lftp_word "$metadata")" "$(lftp_word "$readme")" || code=$?
else
  look_by_sftp "$(lftp_word "$metadata")" "$(lftp_word "$readme")" || code=$?
fi
if grep -qx "$LISTED" "$scratch/listing"; then
  tell_listing
  # Small files whose loss would cost nothing but a title: whether they came is a fact of its own.
  for kind in metadata readme; do
    limit=$METADATA_BYTES
    [[ $kind == metadata ]] || limit=$README_BYTES
    [[ ! -s $scratch/$kind ]] || printf '%s=%s\n' "$kind" "$(head -c "$limit" "$scratch/$kind" | base64 -w 0)"
  done
  code=0
fi
finish "$code"
