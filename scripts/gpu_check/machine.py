"""The GPU that the driver tells of, and what nvidia-smi says of it while a part runs."""

import ctypes
import os
import re
import statistics
import subprocess
import tempfile


def ask_nvidia_smi(fields, more=""):
    """The command that prints these fields of the first GPU."""
    return f"exec nvidia-smi -i 0 --query-gpu={','.join(fields)} --format=csv,noheader,nounits {more} 2>/dev/null"


def find_device():
    """Name and driver of the first GPU, asked of the driver itself; or the reason why there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, "the driver's library libcuda.so.1 is not installed"
    count, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return None, f"the driver answers with error {status} and {count.value} devices"
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetName(name, 256, 0)
    fields = ["driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.memory"]
    said = subprocess.run(ask_nvidia_smi(fields), shell=True, capture_output=True, text=True).stdout.split("\n")[0].split(", ")
    known = dict(zip(fields, said)) if len(said) == len(fields) else {}
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    return dict(gpu=name.value.decode(), gpus=count.value, driver=known.pop("driver_version", "unknown"), nvidia_smi=known,
                cuda_of_driver=version.value // 1000 + version.value % 1000 / 100,
                cpu=f"{cpu}, {len(os.sched_getaffinity(0))} cores"), None


class Monitor:
    """Least, median and greatest of what nvidia-smi says every 5 seconds: MHz, W, degrees Celsius, MiB."""
    FIELDS = ["clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "memory.used"]

    def __enter__(self):
        self.file = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(ask_nvidia_smi(self.FIELDS, "-l 5"), shell=True, stdout=self.file)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def figures(self):
        self.file.seek(0)
        lines = [line.strip().split(", ") for line in self.file]
        columns = zip(*[line for line in lines if len(line) == len(self.FIELDS)])
        numbers = [[float(word) for word in column if re.fullmatch(r"[\d.]+", word)] for column in columns]
        return {field: [min(column), statistics.median(column), max(column)]
                for field, column in zip(self.FIELDS, numbers) if column}
