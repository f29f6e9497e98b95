"""Measure sections and draw RESULTS.md from all that were ever measured here.

python -m benchmarks [SECTION ...] [--quick] [--draw]
"""

from __future__ import annotations

import argparse
import importlib
import json
import time

from benchmarks.harness import HERE, RESULTS, Section

SECTIONS = (
    "kernels",
    "kmeans",
    "markov",
    "startup",
    "resident",
    "streamed",
    "memory",
    "passes",
    "starts",
    "sample_first",
    "many",
    "job",
    "dimensions",
    "scaling",
    "raster",
    "page",
)
"""In the order of RESULTS.md."""


def draw() -> None:
    """Write RESULTS.md."""
    kept = {p.stem: json.loads(p.read_text()) for p in RESULTS.glob("*.json")}
    parts = [
        "# Results",
        (
            "Written by `make bench` (`python -m benchmarks`). Candidates of one table took turns in one run "
            "on one machine, with the same threads for all, unless its section says otherwise; figures are "
            "medians, and ratios are of medians. "
            "A goal stands in brackets beside its figure."
        ),
    ]
    for name in SECTIONS:
        if name not in kept:
            continue
        content = kept[name]
        parts.append(Section.read(content).markdown())
        machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
        parts.append(f"`{content['command']}` on {machine}.")
    (HERE / "RESULTS.md").write_text("\n\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="smaller data and fewer repeats: a smoke test")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw RESULTS.md again")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in [] if options.draw else options.sections or SECTIONS:
        print(f"\n== {name}", flush=True)
        begin = time.perf_counter()
        section: Section = importlib.import_module(f"benchmarks.{name}").run(options.quick)
        section.save(name, quick=options.quick)
        print(f"== {name}: {time.perf_counter() - begin:.0f} s", flush=True)
    draw()


if __name__ == "__main__":
    main()
