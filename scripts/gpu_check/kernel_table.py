"""Every kernel of a step, from what Nsight Compute writes (`ncu --csv --page raw`) to the CSV of benchmarks/results and a table."""

import csv
import io
import re

TIME, BYTES = "gpu__time_duration.sum", "dram__bytes.sum"
# Of one unit in microseconds, and in bytes. `--print-units base` gives the first of each.
UNITS = {"ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3, "s": 1e6, "second": 1e6,
         "byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
COLUMNS = ["kernel", "launches", "microseconds", "share_percent", "GB_moved", "GB_per_s"]


class TableError(Exception):
    pass


def kernel_name(text):
    """Without return type, arguments and anonymous namespaces: "void f::<unnamed>::g<int, 2>(const T1 *)" is "f::g<int, 2>"."""
    text = re.sub(r"^void |<unnamed>::|\(anonymous namespace\)::|vitrine::", "", text)
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return text[:i]
    return text


def read_launches(output):
    """(kernel, microseconds, bytes) of each launch in ncu's output, in which lines of the program and of ncu itself may stand."""
    rows = list(csv.DictReader(io.StringIO("\n".join(line for line in output.splitlines() if line.startswith('"')))))
    if not rows or not {"ID", "Kernel Name", TIME, BYTES} <= set(rows[0]):
        return []
    units = rows.pop(0)  # the line under the header
    if units["ID"] or not {units[TIME], units[BYTES]} <= set(UNITS):
        raise TableError(f"ncu's units are {units[TIME]} and {units[BYTES]}, expected one of {', '.join(UNITS)}")
    numbers = [{name: float(row[name].replace(",", "")) * UNITS[units[name]] for name in (TIME, BYTES)} for row in rows]
    return [(kernel_name(row["Kernel Name"]), one[TIME], one[BYTES]) for row, one in zip(rows, numbers)]


def sum_by_kernel(launches):
    """The rows of the table, the longest first."""
    sums = {}
    for name, microseconds, moved in launches:
        row = sums.setdefault(name, dict(kernel=name, launches=0, microseconds=0.0, GB_moved=0.0))
        row["launches"] += 1
        row["microseconds"] += microseconds
        row["GB_moved"] += moved / 1e9
    return sorted(sums.values(), key=lambda row: -row["microseconds"])


def to_csv(rows, title):
    """The file that benchmarks/results keeps; title: what, card and commit."""
    file = io.StringIO()
    print(f"# {title}", file=file)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    total = sum(row["microseconds"] for row in rows)
    for row in rows:
        rate = 1e6 * row["GB_moved"] / row["microseconds"] if row["microseconds"] else 0
        writer.writerow([row["kernel"], row["launches"], f"{row['microseconds']:.1f}", f"{100 * row['microseconds'] / total:.1f}",
                         f"{row['GB_moved']:.4f}", f"{rate:.0f}"])
    return file.getvalue()


def from_csv(text):
    """The rows of such a file, or of ncu's own output."""
    rows = sum_by_kernel(read_launches(text))
    if rows:
        return rows
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    try:
        rows = [dict(kernel=kernel_name(row["kernel"]), launches=int(row["launches"]), microseconds=float(row["microseconds"]),
                     GB_moved=float(row["GB_moved"])) for row in reader]
    except (KeyError, TypeError, ValueError):
        rows = []
    if not sum(row["microseconds"] for row in rows) > 0:
        raise TableError(f"has no rows of {', '.join(COLUMNS[:5])}, and none of `ncu --csv --page raw`, or damaged ones")
    return rows


def markdown(rows, least_percent=0.0):
    """The table for people; kernels below that share of the time are one line."""
    total = sum(row["microseconds"] for row in rows)
    shown = [row for row in rows if row["microseconds"] >= total * least_percent / 100]
    rest = [row for row in rows if row not in shown]
    if rest:
        shown.append(dict(kernel=None, **{key: sum(row[key] for row in rest) for key in ("launches", "microseconds", "GB_moved")}))
    lines = ["| kernel | launches | ms | share | GB | TB/s |", "|---|---|---|---|---|---|"]
    for row in shown:
        name = f"`{row['kernel']}`" if row["kernel"] else f"{len(rest)} more, below {least_percent:g}% each"
        microseconds = row["microseconds"]
        lines.append(f"| {name} | {row['launches']} | {microseconds / 1e3:.2f} | {100 * microseconds / total:.1f}% | "
                     f"{row['GB_moved']:.2f} | {1e3 * row['GB_moved'] / microseconds if microseconds else 0:.2f} |")
    moved = sum(row["GB_moved"] for row in rows)
    launches = sum(row["launches"] for row in rows)
    lines.append(f"| all | {launches} | {total / 1e3:.2f} | 100% | {moved:.2f} | {1e3 * moved / total:.2f} |")
    return "\n".join(lines)
