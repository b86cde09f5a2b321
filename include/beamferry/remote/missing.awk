# Reads a source's census and finds the files that the destination's census lacks, by path, size and time. Writes
# `todo` (their records), `totals` ("FILES BYTES" of them) and `stats` (see lftp_dry_run.sh).
#
# Variables: closed = records, sorted too, of what of the destination has to be opened to the group; open = where those of
# them go that are copies, and are not fetched again, the destination itself as "."; damaged = paths, NUL-terminated, that are to be fetched whatever size and time say; destination = a census, sorted as the source's; window = seconds by which times may differ.
BEGIN {
  RS = "\0"
  while ((getline path < damaged) > 0) is_damaged[path] = 1
  printf "" > todo
  printf "" > open
  advance()
  advance_closed()
}

{
  at = index($0, "//")
  path = substr($0, 1, at - 1)
  split(substr($0, at + 2), field, "//")
  slash = index(path, "/")
  folder = slash ? substr(path, 1, slash - 1) : "."
  if (field[1] == "d" && !slash) folder = path
  if (field[1] != "f" && field[1] != "d") next
  if (!(folder in files)) { name[++folders] = folder; files[folder] = bytes[folder] = 0; lacking[folder] = missing[folder] = 0 }
  while (there != "" && there < path "//") advance()
  if (field[1] == "d") {
    if (there != path "//" || kind != "d") unmade[folder]++
    else note_closed()
    next
  }
  files[folder]++
  bytes[folder] += field[2]
  if (there == path "//" && kind == "f" && size == field[2] && near(modified, field[3]) && !(path in is_damaged)) {
    note_closed()
    next
  }
  printf "%s//f//%s//%s//%c", path, field[2], field[3], 0 > todo
  lacking[folder]++
  missing[folder] += field[2]
}

END {
  while (shut != "") advance_closed()
  if (itself) {
    if (!("." in files)) { name[++folders] = "."; files["."] = bytes["."] = lacking["."] = missing["."] = 0 }
    unmade["."]++
  }
  printf "" > stats
  for (i = 1; i <= folders; i++) {
    printf "folder %.0f %.0f %.0f %.0f %d %s\n", files[name[i]], bytes[name[i]], lacking[name[i]], missing[name[i]], \
      unmade[name[i]], name[i] > stats
    all_files += files[name[i]]; all_bytes += bytes[name[i]]
    all_lacking += lacking[name[i]]; all_missing += missing[name[i]]; all_unmade += unmade[name[i]]
  }
  printf "total %.0f %.0f %.0f %.0f %d .\n", all_files, all_bytes, all_lacking, all_missing, all_unmade > stats
  printf "%.0f %.0f\n", all_lacking, all_missing > totals
}

# The destination's next entry: there = its path and two slashes, as censuses are sorted by, '' at the end.
function advance(   record, at, part) {
  there = ""
  if ((getline record < destination) <= 0) return
  at = index(record, "//")
  there = substr(record, 1, at + 1)
  split(substr(record, at + 2), part, "//")
  kind = part[1]
  size = part[2]
  modified = part[3]
}

# Keeps the record of a copy that has to be opened.
function note_closed() {
  while (shut != "" && shut < path "//") advance_closed()
  if (shut != path "//") return
  printf "%s%c", shut_record, 0 > open
  unmade[folder]++
}

# The next entry that has to be opened, as advance() has it; the destination itself is no entry of the source.
function advance_closed() {
  shut = ""
  if ((getline shut_record < closed) <= 0) return
  shut = substr(shut_record, 1, index(shut_record, "//") + 1)
  if (shut != ".//") return
  printf "%s%c", shut_record, 0 > open
  itself = 1
  advance_closed()
}

function near(a, b) {
  return a - b <= window && b - a <= window
}
