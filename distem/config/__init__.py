"""A run's config: YAML read into frozen, typed objects.

Every key, its default and its meaning stand in one place, the module of its section; `schema` shows
them to editors. Texts such as ``${env:NAME}`` stay unexpanded in these objects, so that whatever is
printed, hashed, pickled or written from them holds no secret; builders ask `Config.locate` or `expand`
for the value at the moment they use it.
"""

from distem.config.cluster import AddressConfig as AddressConfig
from distem.config.cluster import LocalConfig as LocalConfig
from distem.config.cluster import SerialConfig as SerialConfig
from distem.config.cluster import ThreadsConfig as ThreadsConfig
from distem.config.data import CsvDataConfig as CsvDataConfig
from distem.config.data import ImageDataConfig as ImageDataConfig
from distem.config.data import NetcdfDataConfig as NetcdfDataConfig
from distem.config.data import NpyDataConfig as NpyDataConfig
from distem.config.data import ParquetDataConfig as ParquetDataConfig
from distem.config.data import ZarrDataConfig as ZarrDataConfig
from distem.config.env import expand as expand
from distem.config.env import expand_all as expand_all
from distem.config.fit import FitConfig as FitConfig
from distem.config.fit import GivenParameters as GivenParameters
from distem.config.model import GaussianMixtureConfig as GaussianMixtureConfig
from distem.config.reading import load as load
from distem.config.reading import loads as loads
from distem.config.reading import schema as schema
from distem.config.top import Config as Config
from distem.config.top import OutputConfig as OutputConfig
