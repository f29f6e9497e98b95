"""Passes on a Dask cluster: the only package that imports dask or distributed."""

from distem.execution.dask.arrays import LazyBlock as LazyBlock
from distem.execution.dask.arrays import chunked as chunked
from distem.execution.dask.arrays import from_zarr as from_zarr
from distem.execution.dask.arrays import is_dask as is_dask
from distem.execution.dask.arrays import lazy_blocks as lazy_blocks
from distem.execution.dask.arrays import lazy_weights as lazy_weights
from distem.execution.dask.arrays import map_rows as map_rows
from distem.execution.dask.chains import in_order as in_order
from distem.execution.dask.chains import map_chains as map_chains
from distem.execution.dask.cluster import connect as connect
from distem.execution.dask.cluster import current_client as current_client
from distem.execution.dask.cluster import local as local
from distem.execution.dask.cluster import local_capacity as local_capacity
from distem.execution.dask.executor import MERGE_FAN_IN as MERGE_FAN_IN
from distem.execution.dask.executor import PARTITIONS_PER_THREAD as PARTITIONS_PER_THREAD
from distem.execution.dask.executor import DaskBlocks as DaskBlocks
from distem.execution.dask.executor import DaskExecutor as DaskExecutor
from distem.execution.dask.executor import token_of as token_of
