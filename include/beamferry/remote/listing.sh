# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the sourcing script reads what is set here, and sets what is read
# What the facility holds, folder by folder over several connections, and whether its listings are whole. To be
# sourced after progress.sh and lftp.sh.
#
# Servers and lftp cut listings without a word (at 1000 entries, over SFTP at 98): each folder is therefore listed
# twice, in two ways. Over FTP, NLST must name nothing that MLSD or LIST do not have; over SFTP, OpenSSH's own client must
# count as many as lftp. A name that one of the two cannot show, e.g. with a line break, is found by the same look.
#
# list_source OUT reads these variables of the script: scratch (a folder of its own), streams, and the arrays exclude
# and folders (first components to list; all when empty). It writes OUT, a census (see census.sh), and sets
#   modify_window   seconds within which the server's times are exact: 1, or 86400 where it only has LIST
#   round_folders   folders with exactly 1000 entries where both looks agree: no error, but worth a word
# What cannot be listed or is proven incomplete ends the job with 23, 66 or 65, a broken connection with 67 or 68;
# $errors then has lftp's own words, and lines of ours:
#   beamferry: unlisted: FOLDER
#   beamferry: unseen: PATH             (FTP: only NLST names it: a cut listing, a broken link, a hard name)
#   beamferry: cut: FOLDER: N names, M listed         (SFTP: the two clients disagree)
#   beamferry: unreadable-line: FOLDER: LINE

# The tokens open the beamtime's live data streams; DESY's name for them, so it is a pattern.
list_tokens=no modify_window=1 round_folders=0
readonly LISTING_CONNECTIONS=8

list_source() { # OUT
  local out=$1 level=0 mark=beamferry-$RANDOM-$RANDOM-$RANDOM workers
  rm -rf "$scratch/listing"
  mkdir -p "$scratch/listing"
  listing=$scratch/listing
  printf '%s\n' ${exclude[@]+"${exclude[@]}"} >"$listing/exclude"
  printf '%s\n' ${folders[@]+"${folders[@]}"} >"$listing/chosen"
  workers=$((streams < LISTING_CONNECTIONS ? streams : LISTING_CONNECTIONS))
  : >"$listing/records"
  : >"$listing/problems"
  modify_window=1
  # One log-in first: a wrong password is one try, not one of each connection.
  if [[ $far_transport == ftps ]]; then
    echo 'quote FEAT' | lftp_session >"$listing/features" 2>"$listing/first.errors" || list_failed "$listing/first.errors"
    grep -qi MLST "$listing/features" || modify_window=86400
  else
    echo 'pwd' | lftp_session >/dev/null 2>"$listing/first.errors" || list_failed "$listing/first.errors"
  fi
  echo . >"$listing/level"
  while [[ -s $listing/level ]]; do
    list_level "$workers"
    level=$((level + 1))
    # A folder that holds itself would have no end.
    if ((level > 200)); then
      echo "beamferry: unreadable-line: .: folders within folders, 200 deep" >>"$errors"
      finish 65
    fi
  done
  round_folders=$(grep -c '^round' "$listing/problems" || :)
  if grep '^beamferry: ' "$listing/problems" >>"$errors"; then
    if grep -q '^beamferry: unreadable-line' "$listing/problems"; then finish 65; fi
    if grep -qE '^beamferry: (cut|unseen)' "$listing/problems"; then finish 66; fi
    finish 23
  fi
  LC_ALL=C sort -z -S 64M -T "$listing" -o "$out" "$listing/records"
  rm -rf "$listing"
}

# Lists the folders of one level of the tree and finds those of the next.
list_level() { # WORKERS
  local workers=$1 number count
  local -a pids=()
  count=$(wc -l <"$listing/level")
  ((workers <= count)) || workers=$count
  rm -f "$listing"/worker.*
  awk -v workers="$workers" -v name="$listing/worker." '{ print > (name (NR - 1) % workers) }' "$listing/level"
  for ((number = 0; number < workers; number++)); do
    list_commands <"$listing/worker.$number" >"$listing/worker.$number.commands"
    (
      trap - EXIT TERM INT
      lftp_session <"$listing/worker.$number.commands" >"$listing/worker.$number.out" 2>"$listing/worker.$number.errors" || :
      if [[ $far_transport == sftp ]]; then count_by_sftp "$number"; fi
    ) &
    pids+=($!)
  done
  wait "${pids[@]}" || :
  : >"$listing/next"
  for ((number = 0; number < workers; number++)); do
    # A folder that may not be read is told of by its name below; anything else is a connection that broke.
    if grep -qv -e 'Access failed: ' -e '^$' "$listing/worker.$number.errors"; then
      list_failed "$listing/worker.$number.errors"
    fi
    [[ $(tail -n 1 "$listing/worker.$number.out") == "$mark whole" ]] || list_failed "$listing/worker.$number.errors"
    awk -v mark="$mark" -v folders="$listing/worker.$number" -v counts="$listing/worker.$number.counts" \
      -v exclude="$listing/exclude" -v chosen="$listing/chosen" -v tokens="$list_tokens" \
      -v records="$listing/records" -v next_level="$listing/next" -v problems="$listing/problems" \
      -f "$here/listing.awk" "$listing/worker.$number.out" 2>>"$errors" || finish 11
    if [[ -s $listing/problems ]]; then cat "$listing/worker.$number.errors" >>"$errors"; fi
  done
  mv -f "$listing/next" "$listing/level"
}

# Prints lftp's commands for the folders on stdin. Marks that nobody can foresee part the answers.
list_commands() {
  echo 'set cmd:fail-exit no'
  echo 'set net:max-retries 3'
  echo 'set cmd:cls-default ""'
  awk -v mark="$mark" -v names="$far_transport" '
    {
      plain = $0
      print "echo " mark " folder"
      # cls takes a pattern, nlist a name.
      gsub(/[][*?\\]/, "\\\\&")
      print "cls -1aB --perms --size --block-size=1 --date --time-style=T%s " word("./" $0 "/") " || echo " mark " failed"
      if (names != "ftps") next
      print "echo " mark " names"
      print "nlist " word("./" plain "/") " || echo " mark " no-names"
    }
    END { print "echo " mark " whole" }
    function word(text) {
      gsub(/[\\"]/, "\\\\&", text)
      return "\"" text "\""
    }'
}

# Counts the same folders by OpenSSH's client; a line "-" stands for one that it could not list.
count_by_sftp() { # NUMBER
  local number=$1 folder
  local -a words
  read -r -a words <<<"$far_words"
  {
    # cd takes a name, ls a pattern.
    while IFS= read -r folder; do
      printf -- '-cd %s\n-ls -1a\n' "$(lftp_word "$far_root/$folder")"
    done <"$listing/worker.$number"
    echo bye
  } | sftp_session "${words[@]:1}" >"$listing/sftp.$number" 2>"$listing/sftp.$number.errors" || :
  awk '
    /^sftp> -ls -1a/ { if (asked) tell(); asked = 1; count = 0; next }
    /^sftp> / { next }
    $0 != "." && $0 != ".." { count++ }
    END { if (asked) tell() }
    function tell() { print count }' "$listing/sftp.$number" >"$listing/worker.$number.counts"
}

list_failed() { # ERRORS-FILE
  cat "$1" >>"$errors"
  if grep -qE 'Login failed|Certificate|GetPass|ssl-force|[Pp]ermission denied \(|Host key|^beamferry: no-password' "$1"; then
    finish 67
  fi
  finish 68
}
