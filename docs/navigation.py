"""Navigation of the site: pages in an order for readers, decisions by date; what is not there is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGES: dict[str, tuple[str, ...]] = {
    "Start": ("index", "gallery"),
    "Concepts": ("architecture", "scaling"),
    "Models": (
        "mixtures",
        "kmeans",
        "hidden_markov",
        "motion",
        "regression",
        "segmentation",
        "estimator_checks",
    ),
    "Results": ("report", "plots", "nightly"),
    "Operation": ("clusters", "scheduling", "monitoring", "security"),
    "Reference": ("api",),
}


def on_config(config: Any) -> Any:
    """Fill in the navigation."""
    known = {page for pages in PAGES.values() for page in pages}
    others = tuple(p.stem for p in sorted(DOCS.glob("*.md")) if p.stem not in known)
    sections = PAGES | {"Operation": PAGES["Operation"] + others}
    there = {
        name: [f"{page}.md" for page in pages if (DOCS / f"{page}.md").exists()]
        for name, pages in sections.items()
    }
    config.nav = [{name: pages} for name, pages in there.items() if pages]
    decisions = sorted((DOCS / "decisions").glob("*.md"), reverse=True)
    config.nav.append({"Decisions": [f"decisions/{path.name}" for path in decisions]})
    return config
