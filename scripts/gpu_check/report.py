"""report.json: what was measured by one build on one machine, written before and after each part."""

import json
import math
import os

from gpu_check.job import read_json


def finite(x):
    """x with null where a number is none: JSON has no NaN."""
    if isinstance(x, dict):
        return {key: finite(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [finite(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


class Report:
    """about: hardware, commit and what else must be the same for parts of an earlier call to stay."""

    def __init__(self, path, about, earlier):
        self.path, self.content = path, read_json(earlier) or {}
        if {key: self.content.get(key) for key in about} != finite(about):
            self.content = dict(about, parts={})
        self.parts, self.attempts = self.content["parts"], self.content.setdefault("attempts", {})

    def begin(self, name):
        """Counts the attempt before it is made: the next call shall know of it, whatever becomes of this one."""
        self.attempts[name] = self.attempts.get(name, 0) + 1
        self.write()

    def finish(self, name, part):
        self.parts[name] = part
        self.write()

    def write(self):
        with open(self.path + ".partial", "w") as file:
            json.dump(finite(self.content), file, indent=1, allow_nan=False)
        os.replace(self.path + ".partial", self.path)
