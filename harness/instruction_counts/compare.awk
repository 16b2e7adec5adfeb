# Compares instruction counts:  awk -f compare.awk GOLDEN MEASURED
# Exit code 0 if they agree, 1 if not.

BEGIN {
  # Percent. Counts of one binary agree exactly. This much is left for point
  # releases of the compiler and the C library.
  tolerance = 2
  regenerate = "./bazelw run //harness/instruction_counts:regenerate"
}

function complain(text) {
  print "FAIL: " text
  bad = 1
}

# "gcc 12" of "gcc 12.2.0".
function major(version) {
  sub(/[.].*/, "", version)
  return version
}

FNR == 1 { ++file }
/^# (compiler|highway): / {
  value = $0
  sub(/^# [a-z]+: /, "", value)
  tool[file, $2] = value
  next
}
/^#/ { next }
NF != 3 || $2 !~ /^[1-9][0-9]*$/ {
  complain(FILENAME ":" FNR ": not a kernel and its count: " $0)
  next
}
file == 1 { golden[$1] = $2 }
file == 2 { measured[$1] = $2; order[++kernels] = $1 }

END {
  if (kernels == 0) complain("nothing was counted")
  was = tool[1, "compiler:"]
  is = tool[2, "compiler:"]
  if (major(was) != major(is) || is == "") {
    # Another compiler's code has other counts, which say nothing about ours.
    # Neither is this a pass: nothing was compared. Who only wants to work with
    # another compiler never sees it, as the test runs only when it is named,
    # and CI, which names it, has the compiler of the golden file, Debian's.
    complain("cannot compare: the golden file was made with \"" was \
             "\", this is \"" is "\".\n" \
             "  Use the former, or, if CI has changed its compiler, " regenerate)
    exit 1
  }

  for (i = 1; i <= kernels; ++i) {
    kernel = order[i]
    if (!(kernel in golden)) {
      complain(kernel " is not in the golden file. Add it: " regenerate)
      continue
    }
    change = 100 * (measured[kernel] / golden[kernel] - 1)
    line = sprintf("%-24s %12d -> %12d instructions, %+.2f%%", kernel,
                   golden[kernel], measured[kernel], change)
    if (change > tolerance) {
      complain(line ": MORE than " tolerance "%.")
      worse = 1
    } else if (change < -tolerance) {
      complain(line ": fewer, by more than " tolerance "%.")
      better = 1
    } else {
      print line
    }
    delete golden[kernel]
  }
  for (kernel in golden) {
    complain(kernel " is in the golden file and was not counted. Remove it: " \
             regenerate)
  }

  if (worse) {
    print "A kernel became slower on AVX2, unless its other instructions are " \
          "cheaper.\nMend it, or say in the commit why it is right, and " \
          regenerate
  }
  if (better) {
    print "A kernel improved. Keep what was won from being lost unseen: " \
          regenerate
  }
  if (bad) {
    for (i = 1; i <= 2; ++i) {
      printf "%s: %s, Highway %s\n", i == 1 ? "golden" : "now",
             tool[i, "compiler:"], tool[i, "highway:"]
    }
  }
  exit bad
}
