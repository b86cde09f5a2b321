# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script reads what is set here, and sets what is read
# What the facility holds, listed twice by the agent, see listing.py there. To be sourced after progress.sh and lftp.sh.
#
# list_source OUT reads these variables of the script: scratch (a folder of its own), streams, and the arrays exclude
# and folders (first components to list; all when empty). It writes OUT, a census (see census.sh), and sets
#   modify_window   seconds within which the server's times are exact: 1, or 86400 where it only has LIST
#   round_folders   folders with exactly 1000 entries where both looks agree: no error, but worth a word
# What cannot be listed ends the job with 23, what cannot be read with 65, what is proven incomplete or could not be
# checked with 66, a log-in that failed with 67, a broken connection with 68, a stall with 75; $errors then has lftp's
# own words, and lines of ours:
#   beamferry: unlisted: FOLDER
#   beamferry: unseen: PATH             (FTP: only NLST names it: a cut listing, a broken link, a hard name)
#   beamferry: cut: FOLDER: N names, M listed         (SFTP: the two clients disagree)
#   beamferry: unchecked: FOLDER (REASON)             (there was no second look, or one that is cut itself)
#   beamferry: unreadable-line: FOLDER: LINE

# The tokens open the beamtime's live data streams.
list_tokens=no modify_window=1 round_folders=0

list_source() { # OUT
  local code=0
  listing=$scratch/listing
  rm -rf "$listing"
  mkdir -p "$listing"
  list_of ${exclude[@]+"${exclude[@]}"} >"$listing/excluded"
  list_of ${folders[@]+"${folders[@]}"} >"$listing/chosen"
  list_of --transport "$far_transport" --host "$far_host" --port "$far_port" --account "$far_account" \
    --source "$far_root" --ca-file "$far_ca" --log-in "$far_log_in" --secret "$far_secret" --ssh "$far_words" \
    >"$listing/arguments"
  ask_agent list session "$here/lftp_session.sh" scratch "$listing" output "$listing/records" \
    transport "$far_transport" source "$far_root" streams "$streams" tokens "$list_tokens" >/dev/null || code=$?
  if [[ -e $BEAMFERRY_JOB/stalled ]]; then
    echo "Nothing moved for $stall seconds: the listing was stopped."
    code=75
  fi
  ((code == 0)) || finish "$code"
  read -r modify_window round_folders <"$listing/facts"
  sorted -o "$1" "$listing/records" 2>>"$errors" || finish 11
  rm -rf "$listing"
}

# How many entries were listed so far.
listed_entries() {
  local entries=0
  # There is none in the beginning.
  [[ ! -s $scratch/listing/entries ]] || read -r entries <"$scratch/listing/entries" || :
  printf '%d' "${entries:-0}"
}

list_of() { # TEXT...
  (($# == 0)) || printf '%s\0' "$@"
}
