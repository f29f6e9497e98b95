"""Which of the fits is the answer: scores, held-out rows, and the chosen one in the data's own units."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from distem.config import Config
from distem.data.source import Source
from distem.em.dropping import Hopeless
from distem.em.folds import CrossValidated, Validate
from distem.em.loop import Climb
from distem.em.selection import best_by
from distem.errors import ConfigError
from distem.events import Warned
from distem.families.base import Facts
from distem.families.base import family as family_of
from distem.fitted import FittedModel
from distem.matching import Parts, number_after, renumbered, same_units, units_of
from distem.models.base import Model
from distem.session import Fitted, Scanned, Seeded, Session
from distem.starting import family, folds_of


def offset_of(session: Session, scanned: Scanned, model: Model) -> float:
    """What brings a log-likelihood per row to the data's own units."""
    return family_of(session.config.model.kind).offset(model, scanned.transform)


def dropping(config: Config) -> Hopeless | None:
    """The rule by which a sweep lets go of fits, if there is one."""
    rules = {"restarts": Hopeless(), "hopeless": Hopeless(config.fit.select), "never": None}
    return rules[config.fit.drop]


def validate(session: Session, scanned: Scanned, seeded: Seeded) -> dict[str, CrossValidated]:
    """Ask the rows of each fold about every candidate; of its restarts the likeliest elsewhere answers."""
    folds = folds_of(session.config)
    if folds is None:
        return {}
    best: dict[tuple[str, int], Climb] = {}
    for c in seeded.climbs:
        if c.held is not None:
            rival = best.get((family(c.name), c.held))
            if rival is None or c.fit.log_likelihood > rival.fit.log_likelihood:
                best[family(c.name), c.held] = c
    judged = [(c.model, c.fit.params, fold) for (_, fold), c in best.items()]
    sums = scanned.blocks.map_reduce(Validate(judged, folds))
    found: dict[str, CrossValidated] = {}
    for name in dict.fromkeys(of for of, _ in best):
        mine = [i for i, (of, _) in enumerate(best) if of == name]
        found[name] = CrossValidated.of(sums.log_likelihood[mine], sums.mass[mine])
    return found


def choose(
    session: Session, scanned: Scanned, seeded: Seeded, validated: dict[str, CrossValidated]
) -> Fitted:
    """The best of the candidates, by what the config selects by."""
    its = family_of(session.config.model.kind)
    fits = {c.name: c.fit for c in seeded.climbs if c.held is None}
    scores = {name: its.score(seeded.models[name], done, scanned.transform) for name, done in fits.items()}
    for name in scores:
        if (said := validated.get(family(name))) is not None:
            offset = offset_of(session, scanned, seeded.models[name])
            scores[name] = replace(scores[name], cv=said.mean + offset, cv_se=said.error)
    # of the restarts of one candidate the likeliest, whatever the criterion
    families: dict[str, list[str]] = {}
    for name in fits:
        families.setdefault(family(name), []).append(name)
    finalists = {
        name: scores[name]
        for name in (max(names, key=lambda n: fits[n].log_likelihood) for names in families.values())
    }
    chosen = best_by(session.config.fit.select, finalists)

    def dressed(params: Any, facts: Facts) -> FittedModel:
        return FittedModel(
            model=seeded.models[chosen],
            params=params,
            transform=scanned.transform,
            features=session.source.features,
            feature_attrs=session.source.feature_attrs,
            source=session.source.describe(),
            kind=its.kind,
            facts=facts,
        )

    best = fits[chosen]
    model = dressed(best.params, its.facts(seeded.models[chosen], best.stats))
    start = dressed(seeded.starts[chosen], {})
    dropped = {c.name: c.fit.reason.sentence for c in seeded.climbs if c.fit.reason.dropped}
    earlier = earlier_parts(session.config, session.source)
    if earlier is None:
        return Fitted(fits, scores, chosen, model, start, dropped)
    numbered = number_after(earlier, Parts.of(model))
    for remark in numbered.remarks:
        session.observe(Warned(remark))
    if start.k == model.k:
        start = renumbered(start, numbered.order)
    return Fitted(fits, scores, chosen, renumbered(model, numbered.order), start, dropped, numbered)


def earlier_parts(config: Config, source: Source) -> Parts | None:
    """The components of `output.match`, if that is asked for.

    Raises
    ------
    ConfigError
        There is no such run, or it is of another kind, over other features or in other units.
    """
    if config.output.match is None:
        return None
    parts = Parts.of(FittedModel.load(config.locate(config.output.match)))
    if parts.kind != config.model.kind:
        raise ConfigError(
            f"The run in output.match is of kind {parts.kind}; this one of kind {config.model.kind}.",
            "Match a run of the same kind.",
        )
    same_units(parts.units, units_of(source.feature_attrs))
    return parts.over(source.features)
