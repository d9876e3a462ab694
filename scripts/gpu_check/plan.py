"""The plan of measurements, benchmarks/gpu_plan: what it says, what of it is missing, and how a run is entered."""

import configparser
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass

SEPARATOR = " | "
SHOWN = 300  # characters of a part's figures that the plan and the tables keep; the results' file has all of them


class PlanError(Exception):
    pass


@dataclass
class Ran:
    """The last run of a measurement on one kind of card."""
    commit: str
    card: str
    result: str
    figures: str

    def line(self):
        return SEPARATOR.join([self.commit, self.card, self.result, self.figures])


@dataclass
class Measurement:
    name: str
    what: str
    why: str
    seconds: int      # what it needs, and all that it is given
    module: str       # of gpu_check/
    function: str     # in it
    arguments: list
    files: list       # those on which its figures depend: it is missing again once one of them has changed
    ran: dict         # Ran by card

    def call(self, job):
        module = __import__(f"gpu_check.{self.module}", fromlist=[self.function])
        return getattr(module, self.function)(job, *self.arguments)


def read_plan(path):
    """The measurements in the order of the file."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        return [read_section(parser[name]) for name in parser.sections()]
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise PlanError(f"{path}: {' '.join(str(error).split())}") from None
    except (KeyError, ValueError) as error:
        raise PlanError(f"{path}: {error}") from None


def read_section(section):
    name = section.name
    for key in ("what", "why", "seconds", "run", "files"):
        if not section.get(key):
            raise ValueError(f"[{name}] has no `{key} = ...`")
    target, *arguments = shlex.split(section["run"])
    if not section["seconds"].isdigit() or not re.fullmatch(r"\w+\.\w+", target):
        raise ValueError(f"[{name}] has seconds {section['seconds']} and run {target}, expected a number and MODULE.FUNCTION")
    runs = [line.split(SEPARATOR, 3) for line in section.get("ran", "").splitlines() if line]
    if any(len(words) != 4 for words in runs):
        raise ValueError(f"[{name}] has a line under `ran =` that is not COMMIT | CARD | RESULT | FIGURES")
    return Measurement(name, section["what"], section["why"], int(section["seconds"]), *target.split("."), arguments,
                       section["files"].split(), {words[1]: Ran(*words) for words in runs})


def enter_runs(text, entered):
    """The text of a plan with these runs ({name: {card: Ran}}) instead of those that it has for these names; prose stays."""
    lines, name, skipping = [], None, False
    for line in text.splitlines():
        heading = re.match(r"\[(\S+)\]", line)
        name = heading[1] if heading else name
        if name in entered:
            skipping = line.startswith("ran =") or (skipping and line.startswith(" "))
            if skipping:
                continue
        lines.append(line)
        if name in entered and line.startswith("run ="):
            lines += ["ran ="] + ["  " + ran.line() for _, ran in sorted(entered[name].items())]
    return "\n".join(lines) + "\n"


def short(figures):
    """In one line of the plan or of a table."""
    figures = " ".join(figures.replace("|", "/").split())
    return figures if len(figures) <= SHOWN else figures[:SHOWN].rsplit(" ", 1)[0] + " ..."


def missing(plan, parts, attempts, unchanged, card):
    """What is left to do: neither whole in this report nor, on this card, at a commit with the same files. What was begun most
    often comes last, as it may have been what ended an earlier call."""
    def done(one):
        return parts.get(one.name, {}).get("result") in ("passed", "failed") or (one.name, card) in unchanged

    return sorted((one for one in plan if not done(one)), key=lambda one: attempts.get(one.name, 0))


def find_unchanged(plan, root):
    """(name, card) of whole runs since whose commit no file that matters has changed in the work tree."""
    def same(commit, files):
        return subprocess.run(["git", "-C", root, "diff", "--quiet", commit, "--", *files], capture_output=True).returncode == 0

    return [(one.name, ran.card) for one in plan for ran in one.ran.values()
            if ran.result in ("passed", "failed") and same(ran.commit, one.files)]


def main():
    """For scripts/gpu-bundle: one line `NAME | CARD` for each measurement whose last run still holds."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        for pair in find_unchanged(read_plan(os.path.join(root, "benchmarks/gpu_plan")), root):
            print(SEPARATOR.join(pair))
    except PlanError as error:
        sys.exit(f"plan: {error}")


if __name__ == "__main__":
    main()
