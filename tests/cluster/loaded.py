"""What a process that others are forked from has in memory; nothing here starts a thread or opens a file."""

import importlib
import pkgutil
from contextlib import suppress
from multiprocessing import forkserver
from unittest import mock

import dask
from distributed.utils import get_mp_context

import distem
from distem.kernels import compiled, compiled_centres, scaling

MODULES = [
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "distributed.protocol.numpy",
    "xarray.backends.zarr",
    "zarr.storage",
    *(module.name for module in pkgutil.walk_packages(distem.__path__, "distem.")),
]
for name in MODULES:
    if not name.endswith("__main__"):
        with suppress(ImportError):  # an extra that is not there
            importlib.import_module(name)
compiled.warm("full", "float64")
compiled_centres.warm("float64")
scaling.warm("float64")
# and the workers that such a process starts are forked from the same, not from another loaded for them alone
dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
get_mp_context()
mock.patch.object(forkserver._forkserver, "ensure_running").start()
