# Deals files out to connections, the largest first and each to the one that has least to do: reads lines "SIZE NUMBER",
# largest first, and appends lftp's commands to the files `name`0, `name`1 ...
#
# Variables: pass = lines "ID SIZE TIME PATH", which NUMBER counts from 1; workers; kind = "get" to fetch a file under
# its ID in `staging`, or "compare" to hand what comes to the script `scratch`/compare.
BEGIN {
  while ((getline line < pass) > 0) record[++count] = line
}

{
  best = 0
  for (w = 1; w < workers; w++) if (load[w] < load[best]) best = w
  # A file costs some round trips besides its bytes.
  load[best] += $1 + 65536
  line = record[$2]
  split(line, field, " ")
  path = substr(line, length(field[1]) + length(field[2]) + length(field[3]) + 4)
  if (kind == "get")
    command = "get -c " word("./" path) " -o " word(staging "/" field[1]) " && echo \"ok " $2 "\""
  else
    # The shell behind the pipe sees a number, never a name.
    command = "cat " word("./" path) " | sh " word(scratch "/compare") " " $2
  printf "%s || echo \"no %d\"\n", command, $2 > (name best)
}

function word(text) {
  gsub(/[\\"]/, "\\\\&", text)
  return "\"" text "\""
}
