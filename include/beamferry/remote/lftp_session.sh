#!/usr/bin/env bash
# One session with a facility: logs in and does what stdin says.
#
#   lftp_session.sh lftp|sftp FACILITY'S ARGUMENTS (see lftp.sh)
#
# The script that has called far_ready starts it, by way of the agent; the password's file stays that script's.
set -euo pipefail
export LC_ALL=C
here=$(dirname "$0")
# shellcheck source=include/beamferry/remote/lftp.sh
. "$here/lftp.sh"

readonly WORDS_KIB=65536
tool=$1
shift
while (($#)); do
  far_argument "$1" "${2:-}" || { echo "lftp_session.sh: unknown argument $1" >&2 && exit 78; }
  shift 2
done
# A listing goes to a pipe: files get complaints alone.
ulimit -f "$WORDS_KIB" 2>/dev/null || :
case $tool in
  lftp) lftp_session ;;
  sftp)
    read -r -a words <<<"$far_words"
    sftp_session "${words[@]:1}"
    ;;
  *) echo "lftp_session.sh: the tool must be lftp or sftp" >&2 && exit 78 ;;
esac
