"""The default job: look at the data, start, climb, assign every row, publish."""

from distem.pictures import pictures
from distem.stages import Fitted, Session, assign, fit, publish, scan, seed


def run(session: Session) -> Fitted:
    """Fit a mixture and assign every row."""
    scanned = scan(session)
    seeded = seed(session, scanned)
    fitted = fit(session, scanned, seeded)
    assign(session, scanned, fitted)
    if session.config.output.images:
        pictures(session, scanned, fitted)
    publish(session, scanned, seeded, fitted)
    return fitted
