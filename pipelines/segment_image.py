"""Segment pictures: a photograph, a folder of images, or a raster too large for memory.

Out of the box it takes one of the photographs that scikit-learn ships, china.jpg and flower.jpg, by
danielbuechele and vultilion on Flickr (CC BY 2.0).
"""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from distem.config import Config
from distem.pictures import pictures
from distem.stages import Fitted, Session, assign, fit, publish, scan, seed

PHOTOGRAPHS = ("china.jpg", "flower.jpg")


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Copy the photograph that the config names, where it is one of scikit-learn's and not there yet."""
    if config.data.kind != "image" or "://" in config.data.path:
        return
    path = Path(config.locate(config.data.path))
    package = find_spec("sklearn")
    if path.name not in PHOTOGRAPHS or path.exists() or package is None or package.origin is None:
        return
    say(f"copying scikit-learn's photograph {path.name} (CC BY 2.0) to {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    shutil.copyfile(Path(package.origin).parent / "datasets" / "images" / path.name, partial)
    partial.rename(path)


def run(session: Session) -> Fitted:
    """Fit a mixture to the pixels, label every one, and draw the segments."""
    scanned = scan(session)
    seeded = seed(session, scanned)
    fitted = fit(session, scanned, seeded)
    assign(session, scanned, fitted)
    pictures(session, scanned, fitted)
    publish(session, scanned, seeded, fitted)
    return fitted
