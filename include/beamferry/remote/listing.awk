# Reads what lftp answered to the commands of listing.sh, one folder after the other, and appends to `records`
# (a census, NUL-terminated), `next_level` (folders to list next, by lines) and `problems`.
#
# Variables: mark; folders and counts = files with the folders in the order in which they were asked for, and what
# OpenSSH's sftp counted in each ('' where there is none); exclude, chosen = files of paths; tokens = yes or no.
BEGIN {
  while ((getline line < exclude) > 0) if (line != "") left_out[line] = 1
  while ((getline line < chosen) > 0) if (line != "") { wanted[line] = 1; choosy = 1 }
}

$0 == mark " folder" {
  end_folder()
  if ((getline folder < folders) <= 0) exit 65
  asked = 1
  part = "list"
  listed = failed = unknown = 0
  split("", seen)
  next
}
$0 == mark " names" { part = "names"; next }
$0 == mark " failed" { failed = 1; next }
# Some servers refuse to name the files of an empty folder.
$0 == mark " no-names" { if (listed) problem("unlisted: " folder); next }
$0 == mark " whole" { end_folder(); next }

part == "names" {
  # Some servers name the folder too, some do not.
  name = $0
  sub(/\/$/, "", name)
  sub(/^.*\//, "", name)
  if (name == "" || name == "." || name == "..") next
  if (!(name in seen)) unseen[++unknown] = name
  next
}

part == "list" {
  # PERMISSIONS [SIZE] TSECONDS NAME, the name behind one blank: it may begin with more.
  if (!match($0, /^[-dlbcps][-rwxsStT]+ +([0-9]+ +|- +)?T-?[0-9]+ /)) {
    problem("unreadable-line: " folder ": " $0)
    next
  }
  name = substr($0, RLENGTH + 1)
  fields = split(substr($0, 1, RLENGTH), field, " ")
  kind = substr(field[1], 1, 1)
  size = fields == 3 ? field[2] : "-"
  modified = substr(field[fields], 2)
  target = ""
  if (kind == "l" && (at = index(name, " -> "))) {
    target = substr(name, at + 4)
    name = substr(name, 1, at - 1)
  }
  if (name == "." || name == "..") next
  listed++
  seen[name] = 1
  if (name == "" || name ~ /\//) { problem("unreadable-line: " folder ": " $0); next }
  path = folder == "." ? name : folder "/" name
  if (is_left_out(path, kind)) next
  if (kind == "d") {
    if (choosy && folder == "." && !(name in wanted)) next
    put(path, "d", 0, 0, "")
    print path >> next_level
  } else if (kind == "-") {
    if (size == "-") { problem("unreadable-line: " folder ": " $0); next }
    put(path, "f", size, modified, "")
  } else if (kind == "l") put(path, "l", 0, 0, target)
  else put(path, "o", 0, 0, "")
}

function put(path, kind, size, modified, target) {
  printf "%s//%s//%s//%s//%s%c", path, kind, size, modified, target, 0 >> records
}

function is_left_out(path, kind) {
  return (path in left_out) || (kind == "d" && (path "/") in left_out) || \
    (tokens != "yes" && path ~ /^shared\/asapo-token[^\/]*\.txt$/)
}

function end_folder(   counted, i) {
  if (!asked) return
  asked = 0
  counted = -1
  if ((getline line < counts) > 0 && line != "-") counted = line + 0
  if (failed) { problem("unlisted: " folder); return }
  if (counted >= 0 && counted != listed) problem("cut: " folder ": " counted " names, " listed " listed")
  for (i = 1; i <= unknown; i++) {
    path = folder == "." ? unseen[i] : folder "/" unseen[i]
    if (is_left_out(path, "d") || (choosy && folder == ".")) continue
    problem("unseen: " path)
  }
  if (listed == 1000) print "round " folder >> problems
}

function problem(text) {
  print "beamferry: " text >> problems
}
