# Makes benchmarks/reproduce's table from runs.csv: means over seeds with their range, then differences, seed by seed.
NR == 1 { next }
!($2 in count) { order[++rows] = $2 }
{
  paper[$2] = $4
  top1[$2, $3] = $8
  sum[$2] += $8
  seconds[$2] += $12
  if (!count[$2]++ || $8 < low[$2]) low[$2] = $8
  if (count[$2] == 1 || $8 > high[$2]) high[$2] = $8
  if ($3 > seeds) seeds = $3
}

# One line for a - b, where both were trained, with what the papers report.
function difference(a, b, label,    seed, n, total, least, most, d) {
  for (seed = 1; seed <= seeds; ++seed) {
    if (!((a, seed) in top1) || !((b, seed) in top1)) continue
    d = top1[a, seed] - top1[b, seed]
    if (!n++ || d < least) least = d
    if (n == 1 || d > most) most = d
    total += d
  }
  if (n) printf "| %s | %+.2f | %+.2f to %+.2f | %+.1f |\n", label, total / n, least, most, paper[a] - paper[b]
}

END {
  print "| row | mean | lowest to highest | seeds | minutes each | paper |"
  print "|---|---|---|---|---|---|"
  for (i = 1; i <= rows; ++i) {
    r = order[i]
    printf "| %s | %.2f | %.2f to %.2f | %d | %.1f | %s |\n", r, sum[r] / count[r], low[r], high[r], count[r], seconds[r] / count[r] / 60, paper[r]
  }
  print ""
  print "| difference, with the same seed | mean | lowest to highest | paper |"
  print "|---|---|---|---|"
  difference("deit-token", "deit", "token distillation - none")
  difference("deit-hard", "deit", "hard distillation - none")
  difference("deit-soft", "deit", "soft distillation - none")
  difference("deit-hard", "deit-soft", "hard - soft")
  difference("swin", "swin-no-shift", "shifted windows - not shifted")
  difference("swin", "swin-no-position", "relative positions - none")
  difference("swin", "swin-absolute", "relative positions - absolute")
  difference("swin", "swin-absolute-relative", "relative positions - both")
}
