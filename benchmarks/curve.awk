# Draws the curve of a run as SVG: train and eval loss on the left axis, top-1 on the right one, by epoch.
#   awk -f benchmarks/curve.awk runs/NAME/summary.csv > curve.svg
BEGIN { FS = ","; width = 720; height = 360; left = 56; right = 56; top = 24; bottom = 44 }
NR == 1 { next }
{
  epoch[++n] = $1 + 1  # epochs done
  train[n] = $2
  eval[n] = $3
  top1[n] = $4
  if (n == 1 || $2 < low) low = $2
  if ($2 > high) high = $2
  if ($3 != "nan" && $3 != "" && $3 < low) low = $3
  if ($3 != "nan" && $3 != "" && $3 > high) high = $3
}
function x_of(e) { return left + (width - left - right) * (last > 1 ? (e - 1) / (last - 1) : 0.5) }
function y_of(share) { return height - bottom - (height - top - bottom) * share }
function loss_share(loss) { return (loss - low) / (high > low ? high - low : 1) }
function text(x, y, anchor, words) {
  printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, words
}
# A line through the epochs that have a value, with a dot on each.
function line(name, values, is_loss, colour,    i, points, y) {
  for (i = 1; i <= n; ++i) {
    if (values[i] == "nan" || values[i] == "") continue
    y = y_of(is_loss ? loss_share(values[i]) : values[i] / 100)
    points = points sprintf("%.1f,%.1f ", x_of(epoch[i]), y)
    printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n", x_of(epoch[i]), y, colour
  }
  printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points, colour
  printf "<text x=\"%d\" y=\"16\" fill=\"%s\">%s</text>\n", left + 150 * legends++, colour, name
}
END {
  last = epoch[n]
  low = int(low * 10) / 10
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
  for (i = 0; i <= 5; ++i) {
    y = y_of(i / 5)
    printf "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, width - right, y, y
    text(left - 8, y + 4, "end", sprintf("%.2f", low + (high - low) * i / 5))
    text(width - right + 8, y + 4, "start", sprintf("%d%%", 20 * i))
  }
  step = last > 12 ? int(last / 10 + 0.5) : 1
  for (e = step; e <= last; e += step) text(x_of(e), height - bottom + 18, "middle", e)
  text(width / 2, height - 8, "middle", "epochs")
  line("train loss", train, 1, "#1f77b4")
  line("eval loss", eval, 1, "#d62728")
  line("top-1 (right axis)", top1, 0, "#2ca02c")
  print "</svg>"
}
