"""What every part of scripts/gpu-check is given (the job), and what it answers with (its outcome)."""

import csv
import glob
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time


def cuda_folders():
    """Where CUDA's libraries may lie if the loader does not know: toolkits, and the wheels that PyTorch brings."""
    found = glob.glob("/usr/local/cuda*/lib64") + glob.glob("/usr/local/cuda*/lib")
    for site in [path for path in sys.path if path.endswith("-packages")]:
        found += glob.glob(f"{site}/nvidia/*/lib")
    return sorted(set(found))


class Job:
    """What a part needs: programs, a folder for logs, and a clock. extract(archive, folder) unpacks a tar."""

    def __init__(self, root, arguments, extract):
        self.root, self.arguments, self.extract = root, arguments, extract
        self.scratch = tempfile.mkdtemp(prefix="vitrine-gpu-check-run-")
        self.lasting = root + "-lasting"  # a later call with the same archive on the same machine finds it again
        self.deadline = 0.0
        self.earlier = {}  # what the report says of this part from a call before
        self.environment = dict(os.environ, VITRINE_SOURCE_DIR=root)
        self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), *cuda_folders()]))

    def program(self, name):
        return os.path.join(self.root, "bin", name)

    def left(self):
        return max(1.0, self.deadline - time.monotonic())

    def data_dir(self):
        """The folder of CIFAR-10, or None."""
        given = self.arguments.data_dir
        if not given or os.path.isdir(given):
            return given
        folder = os.path.join(self.scratch, "cifar10")
        if not os.path.isdir(folder):
            self.extract(given, folder)
        return folder

    def run(self, command, ours=True, seconds=1e9, silence=1e9):
        """(exit status or None if it ran out of time or said nothing for so long, output). Ours gets the libraries of the bundle
        and of CUDA."""
        output, end = b"", time.monotonic() + min(self.left(), seconds)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                              env=self.environment if ours else None) as process:
            try:
                while True:
                    wait = min(end - time.monotonic(), silence)
                    if wait <= 0 or not select.select([process.stdout], [], [], wait)[0]:
                        os.killpg(process.pid, signal.SIGKILL)
                        return None, output.decode(errors="replace")
                    chunk = os.read(process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        return process.wait(), output.decode(errors="replace")
                    output += chunk
            except BaseException:  # gpu-check is being stopped: nothing of it shall keep the GPU busy
                os.killpg(process.pid, signal.SIGKILL)
                raise

    def train(self, name, flags):
        """A run of `vitrine train`: exit status, lines of summary.csv, output."""
        runs = os.path.join(self.scratch, "runs")
        status, output = self.run([self.program("vitrine"), "train", *flags, "--output", runs, "--experiment", name])
        try:
            with open(os.path.join(runs, name, "summary.csv")) as file:
                return status, list(csv.DictReader(file)), output
        except OSError:
            return status, [], output


def outcome(passed, figures, cut=False, **details):
    """Cut: the time was over before all was done, and nothing was wrong until then."""
    return dict(result="failed" if not passed else "cut" if cut else "passed", figures=figures, **details)


def skipped(reason):
    return dict(result="skipped", figures=reason)


def read_json(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
