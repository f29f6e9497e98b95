"""Hard against soft: k-means and a mixture on the same rows, and what k-means cuts wrong.

``options.truth`` names a coordinate with the known group of each row, where there is one;
``options.example`` makes the data first: "elongated" (three long, overlapping groups) or "iris" (Fisher's
flowers, from scikit-learn).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from distem.config import Config
from distem.errors import ConfigError
from distem.hard_soft import assign_both, comparison_dataset, fit_hard, numbered_alike
from distem.stages import Fitted, Session, fit, publish, scan, seed

ROWS = 30_000


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Make the example that the options name, unless that is done."""
    example, path = config.options.get("example"), Path(config.locate(config.data.path))
    if example is None or path.exists():
        return
    if example not in EXAMPLES:
        raise ConfigError(
            f"options.example is {example!r}.", f"It can be {', '.join(EXAMPLES)}; or leave it out."
        )
    say(f"writing the example {example} to {path}")
    dataset = EXAMPLES[example](config.seed)
    for variable in dataset.variables.values():
        variable.encoding["chunks"] = (4096,)
    partial = path.with_name(f"{path.name}.partial")
    dataset.to_zarr(partial, mode="w", consolidated=False)
    partial.rename(path)


def run(session: Session) -> Fitted:
    """Fit both, assign with both, compare."""
    scanned = scan(session)
    seeded = seed(session, scanned)
    fitted = fit(session, scanned, seeded)
    hard = fit_hard(session, scanned, seeded, fitted)
    hard = numbered_alike(fitted.model, hard, seeded.sample)
    compared = assign_both(session, scanned, fitted, hard, session.config.options.get("truth"))
    publish(session, scanned, seeded, fitted, {"comparison": comparison_dataset(compared, hard)})
    return fitted


def elongated(seed: int) -> xr.Dataset:
    """Three groups, long in one direction and overlapping at their ends; the group of each row is known."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, ROWS, p=[0.5, 0.3, 0.2])
    spread = np.array([[6.0, 1.0], [6.0, 1.0], [1.2, 3.5]])[group]
    angle = np.array([0.35, 0.35, 0.35])[group]
    centre = np.array([[0.0, 2.2], [1.0, -2.2], [11.0, 1.5]])[group]
    along, across = rng.normal(size=(2, ROWS)) * spread.T
    x = centre[:, 0] + along * np.cos(angle) - across * np.sin(angle)
    y = centre[:, 1] + along * np.sin(angle) + across * np.cos(angle)
    return xr.Dataset(
        {"x": ("point", x, {"long_name": "easting", "units": "m"}),
         "y": ("point", y, {"long_name": "northing", "units": "m"})},
        coords={"group": ("point", group.astype(np.int32), {"long_name": "group it was drawn from"})},
        attrs={"title": "Three long groups"},
    )  # fmt: skip


def iris(seed: int) -> xr.Dataset:  # noqa: ARG001 -- there is but one
    """Fisher's iris flowers, as scikit-learn ships them; the species is the group."""
    from sklearn.datasets import load_iris

    found = load_iris()
    names = [name.removesuffix(" (cm)") for name in found.feature_names]
    return xr.Dataset(
        {
            name.replace(" ", "_"): ("flower", column, {"long_name": name, "units": "cm"})
            for name, column in zip(names, found.data.T, strict=True)
        },
        coords={"species": ("flower", found.target.astype(np.int32))},
        attrs={"title": "Fisher's iris", "source": "scikit-learn, from Fisher (1936)"},
    )


EXAMPLES: dict[str, Callable[[int], xr.Dataset]] = {"elongated": elongated, "iris": iris}
