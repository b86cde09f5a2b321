# Cuts the to-do list (lines: SIZE NAME, names with \#ooo as rsync prints them) into what one connection
# fetches: shards, contiguous NUL-terminated lists `folder`/s00001 ..., and the files that are worth fetching
# in ranges, `folder`/large. Prints the number of shards and of large files.
#
# Variables: folder; streams; bytes and files of the whole list; threshold = bytes from which a file is large
# (0 = never).
#
# Shards shrink as the work runs out (guided self-scheduling), so the streams end together: each takes
# 1/(1.5 x streams) of what is left.
#   At least 16 MiB, and up to 128 MiB when there is that much to do: opening a connection takes 0.4 s at 15 ms
#   and a tenth of a second of CPU at both ends, which is to be small against the 10 s that 128 MiB take at 13 MB/s.
#   At most 8 GiB (about ten minutes) and 10,000 files: a broken stream costs the pass over one shard's files,
#   and rsync holds one shard's list.
# A file counts 64 KiB more than its size: making a small file on network storage takes about 5 ms.
BEGIN {
  MIB = 1024 * 1024
  FILE_COST = 65536
  MAX_FILES = 10000
  left = bytes + files * FILE_COST
  for (i = 1; i < 256; i++) character[sprintf("%03o", i)] = sprintf("%c", i)
  least = left / (streams * 3)
  if (least < 16 * MIB) least = 16 * MIB
  if (least > 128 * MIB) least = 128 * MIB
  large = folder "/large"
  printf "" > large
}

{
  gap = index($0, " ")
  if (gap < 2 || substr($0, 1, gap - 1) !~ /^[0-9]+$/) { failed = 1; exit 78 }
  size = substr($0, 1, gap - 1) + 0
  name = decode(substr($0, gap + 1))
  left -= size + FILE_COST
  if (threshold > 0 && size >= threshold) {
    printf "%s%c", name, 0 > large
    larges++
    next
  }
  if (shard == "" || held >= MAX_FILES || weight >= target) open_shard()
  printf "%s%c", name, 0 > shard
  held++
  weight += size + FILE_COST
}

END { if (!failed) printf "%d %d\n", shards, larges }

function open_shard() {
  if (shard != "") close(shard)
  shard = sprintf("%s/s%06d", folder, ++shards)
  held = weight = 0
  target = left / (streams * 1.5)
  if (target < least) target = least
  if (target > 8192 * MIB) target = 8192 * MIB
}

function decode(text,   at, done) {
  done = ""
  while (at = match(text, /\\#[0-7][0-7][0-7]/)) {
    done = done substr(text, 1, at - 1) character[substr(text, at + 2, 3)]
    text = substr(text, at + 5)
  }
  return done text
}
