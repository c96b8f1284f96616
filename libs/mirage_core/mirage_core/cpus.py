"""Number and kind of the processors that this process may use."""

import math
import os
import platform
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
# The instruction sets that inference engines choose their kernels by, as Linux names them.
_INSTRUCTION_SETS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip


def available_cpus(cgroups: Path = _CGROUPS) -> int:
    """Processors by affinity and by the cgroup's quota (v2, or v1 as older hosts have it), whichever is fewer.

    At least 1.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroups / name).read_text() for name in files).split()
            # "max" in v2 and -1 in v1 mean that the quota is not set.
            if quota not in ("max", "-1"):
                count = min(count, math.ceil(int(quota) / int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return max(1, count)


def cpu_kind(cpuinfo: Path = _CPUINFO) -> str:
    """Returns the architecture and its instruction sets, such as "x86_64 avx2 fma avx512f": results may depend on them.

    Without name, number or address of the machine; the architecture alone if the system does not say more.
    """
    machine = platform.machine()
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return machine
    listed = next((line for line in lines if line.partition(":")[0].strip().lower() in ("flags", "features")), "")
    there = set(listed.partition(":")[2].split())
    return " ".join([machine, *(name for name in _INSTRUCTION_SETS if name in there)])
