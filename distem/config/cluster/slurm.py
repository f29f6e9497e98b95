"""Workers that are jobs of Slurm."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from distem.config.cluster.base import LOOPBACK, AdaptConfig, ClusterConfig
from distem.config.fields import Count, Location, Memory, Text, memory_bytes, wrong

if TYPE_CHECKING:
    from distem.execution.base import Capacity, Executor

_WALLTIME = re.compile(r"(?:(\d+)-)?(\d{1,3}):([0-5]\d):([0-5]\d)")


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise wrong("needs one line of printable text: it becomes a line of the job script")
    return value


def _walltime(value: str) -> str:
    if not _WALLTIME.fullmatch(value):
        raise wrong(f"needs hours:minutes:seconds, such as 02:00:00 or 1-12:00:00, got {value!r}")
    return value


_Line = Annotated[Text, AfterValidator(_one_line)]
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._,:@-]*$")]


class SlurmConfig(ClusterConfig):
    """Workers that are jobs of Slurm, beside a scheduler in this process."""

    kind: Literal["slurm"] = Field(description="Workers that are jobs of Slurm; extra slurm.")
    adapt: AdaptConfig = Field(description="How many jobs are kept; one that ends is submitted anew.")
    queue: _Word | None = Field(default=None, description="The partition of Slurm; null: its default.")
    account: _Word | None = Field(default=None, description="The account that is charged.")
    cores: Count = Field(default=1, description="Cores of a job, each of which is a thread of its worker.")
    memory: Memory = Field(description="Memory of a job, such as 4GiB.")
    walltime: Annotated[str, AfterValidator(_walltime)] = Field(
        default="01:00:00",
        description="Time limit of a job. Workers leave in order before it, and are replaced.",
    )
    job_extra: Annotated[tuple[_Line, ...], Field(strict=False)] = Field(
        default=(), description="Further #SBATCH directives, such as --constraint=ib."
    )
    prologue: Annotated[tuple[_Line, ...], Field(strict=False)] = Field(
        default=(), description="Lines of shell before the worker starts, such as module load python."
    )
    interface: _Word | None = Field(
        default=None, description="Network interface of scheduler and workers, such as ib0."
    )
    host: _Word | None = Field(
        default=None, description="Address on which the scheduler listens; null: the interface's, or any."
    )
    tls: bool = Field(
        default=True, description="Encrypt, with certificates made for this run, and take nobody without one."
    )
    shared_folder: Location = Field(
        default="~", description="A folder that all nodes see: holds the run's certificates while it lasts."
    )
    log_folder: Location | None = Field(
        default=None, description="Where the jobs' output goes; null: Slurm's own place for it."
    )
    local_folder: Location | None = Field(
        default=None, description="Where workers spill, on their own node; null: Dask's."
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=3600.0, description="Seconds to wait in the queue for the smallest number of workers."
    )
    allow_version_skew: bool = Field(
        default=False, description="Go on although workers run other versions; the bits may differ."
    )

    @model_validator(mode="after")
    def _all_said(self) -> SlurmConfig:
        if self.memory == "auto":
            raise wrong("needs a size, such as 4GiB: Slurm gives a job what it asks for", "memory")
        if self.host and self.interface:
            raise wrong("cannot stand beside interface, which says the same", "host")
        if not (self.tls or self.insecure or self.host in LOOPBACK or self.interface == "lo"):
            raise wrong(
                "is false, and others on the network could run code on the cluster; "
                "leave it true, or --insecure where the network is trusted",
                "tls",
            )
        return self

    @property
    def seconds(self) -> int:
        """The walltime."""
        match = _WALLTIME.fullmatch(self.walltime)
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0,) * 4
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    def build(self, locate: Callable[[str], str]) -> Executor:
        """Submit the jobs and wait for the first."""
        from distem.execution.dask.slurm import slurm

        return slurm(
            minimum=self.adapt.minimum,
            maximum=self.adapt.maximum,
            cores=self.cores,
            memory=memory_bytes(self.memory),
            walltime=self.walltime,
            seconds=self.seconds,
            queue=self.queue,
            account=self.account,
            directives=list(self.job_extra),
            prologue=list(self.prologue),
            interface=self.interface,
            host=self.host,
            tls=self.tls,
            shared_folder=locate(self.shared_folder),
            log_folder=self.log_folder and locate(self.log_folder),
            local_folder=self.local_folder and locate(self.local_folder),
            timeout=self.timeout,
            allow_version_skew=self.allow_version_skew,
        )

    def capacity(self, locate: Callable[[str], str]) -> Capacity:  # noqa: ARG002
        """What a run counts on when it begins; submits nothing."""
        from distem.execution.base import Capacity

        count = self.adapt.minimum
        return Capacity(count, count * self.cores, memory_bytes(self.memory))
