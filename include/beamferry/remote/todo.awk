# Reads what a dry run of rsync prints: "@ ITEM SIZE NAME" for what is to do, the text of --stats, remarks.
# Writes `todo` (SIZE NAME, files to fetch only), `others` (the same of folders and links to make), `count` (files and
# bytes so far), `stats` and `notes`.
BEGIN {
  printf "" > todo
  printf "" > others
  printf "" > stats
}
substr($0, 1, 2) == "@ " {
  rest = substr($0, index(substr($0, 3), " ") + 3)
  if (substr($0, 3, 1) == "c") print rest > others
  if (substr($0, 3, 2) != ">f") next
  print rest > todo
  files++
  bytes += substr(rest, 1, index(rest, " ") - 1)
  # Now and then for the progress; once in 10,000 files costs nothing.
  if (files % 10000 == 0) tell()
  next
}
/^Number of files: / { summary = 1 }
summary { print > stats; next }
# "created directory", "skipping non-regular file": remarks, up to a screenful of them.
/./ { if (remarks++ < 200) print > notes }
END { tell() }

function tell() {
  printf "%.0f %.0f\n", files, bytes > count
  close(count)
}
