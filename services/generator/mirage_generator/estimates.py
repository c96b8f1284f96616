"""When jobs will be finished: the queue's order, played through on the workers with measured times."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mirage_generator.jobs import Spec


@dataclass(frozen=True)
class Work:
    """The work of a job: `steps` denoising steps in all for `images` images. A step's time depends on `workload` alone.

    That is "WIDTHxHEIGHT/PASSES", with two passes of the UNet if guidance needs both. Times are kept under
    "WORKLOAD:step", seconds per step, and "WORKLOAD:rest", seconds for the rest of an image.
    """

    workload: str
    steps: int
    images: int

    @property
    def area(self) -> int:
        """Pixels of an image."""
        width, height = self.workload.partition("/")[0].split("x")
        return int(width) * int(height)

    @property
    def passes(self) -> int:
        """Runs of the UNet a step."""
        return int(self.workload.partition("/")[2])


def work_of(spec: Spec, *, two_passes: bool) -> Work:
    """Returns the work of a spec.

    `two_passes` means that the model's guidance runs the UNet twice above a scale of 1.
    """
    passes = 2 if two_passes and spec.guidance_scale > 1 else 1
    return Work(f"{spec.width}x{spec.height}/{passes}", spec.steps * spec.images, spec.images)


@dataclass(frozen=True)
class Outlook:
    """A job's place in the queue: the jobs before it, and seconds until it is finished (None: unknown)."""

    position: int
    eta_s: float | None

    @property
    def seconds(self) -> int | None:
        """The time that is left, as a reader sees it change."""
        return None if self.eta_s is None else round(self.eta_s)


@dataclass(frozen=True)
class Snapshot:
    """The queue at the time `now` (seconds): waiting jobs in the order in which they are taken, and running ones.

    A running job's entry ends with its steps done and when the last of them was. `times` are measured seconds by name.
    """

    now: float
    workers: int
    pending: tuple[tuple[str, Work], ...]
    running: tuple[tuple[str, Work, int, float], ...]
    times: Mapping[str, float]

    @cached_property
    def outlooks(self) -> Mapping[str, Outlook]:
        """Every unfinished job's outlook by its id."""
        found: dict[str, Outlook] = {}
        free: list[float] = [0.0] * max(0, self.workers - len(self.running))
        # The times of jobs after one of unknown length are unknown.
        known = self.workers > 0
        for id_, work, step, since in self.running:
            left = self._seconds(work, step)
            eta = None if left is None else max(0.0, left - max(0.0, self.now - since))
            found[id_] = Outlook(0, eta)
            if eta is None:
                known = False
            else:
                free.append(eta)
        heapq.heapify(free)
        for position, (id_, work) in enumerate(self.pending):
            seconds = self._seconds(work, 0)
            known = known and seconds is not None and bool(free)
            eta = None
            if known and seconds is not None:
                eta = heapq.heappop(free) + seconds
                heapq.heappush(free, eta)
            found[id_] = Outlook(position, eta)
        return found

    def wait_s(self) -> float | None:
        """Returns the seconds until the first running job is finished, or None if unknown."""
        return min((eta for id_, *_ in self.running if (eta := self.outlooks[id_].eta_s) is not None), default=None)

    def _seconds(self, work: Work, step: int) -> float | None:
        one = self._time(work, "step")
        rest = self._time(work, "rest")
        if one is None or rest is None:
            return None
        each = max(1, work.steps // work.images)
        return (work.steps - step) * one + (work.images - step // each + (step == work.steps)) * rest

    def _time(self, work: Work, part: str) -> float | None:
        measured = self.times.get(f"{work.workload}:{part}")
        if measured is not None:
            return measured
        # Returns the time measured at the nearest size; a step's time is proportional to the pixels and the passes.
        others = [
            (Work(name, 1, 1), seconds)
            for name, _, kind in (key.partition(":") for key in self.times)
            if kind == part and (seconds := self.times[f"{name}:{part}"])
        ]
        if not others:
            return None
        nearest, seconds = min(others, key=lambda pair: (abs(pair[0].area - work.area), pair[0].passes != work.passes))
        passes = work.passes / nearest.passes if part == "step" else 1
        return seconds * work.area / nearest.area * passes
