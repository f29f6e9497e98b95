"""The stage that writes what the fitted model says of every row; interrupted, it writes what is missing."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np

from distem.assignment import AssignRows
from distem.data import results
from distem.data.assignment import AssignmentWriter, Receipt, create_assignment, go_on_with
from distem.data.written import LookAtWritten, without
from distem.events import Note, PhaseStarted
from distem.execution.base import BlockSet
from distem.session import Fitted, Scanned, Session
from distem.smoothing import SmoothRows


def assign(session: Session, scanned: Scanned, fitted: Fitted) -> Receipt | None:
    """Write labels, probabilities and densities of every row, block by block, in parallel.

    Returns
    -------
    Receipt or None
        Of the blocks written now; those that an interrupted run wrote are not counted again.
    """
    session.observe(PhaseStarted("assign"))
    path, variables = session.folder.result, session.config.output.variables
    if not variables:
        session.lease.confirm()
        results.create_result(path)
        return None
    writer, done = _writer(session, scanned, fitted)
    asked = session.config.output.smoothing
    halo = 0 if asked is None else asked.build().halo

    def write(blocks: BlockSet) -> Receipt:
        if asked is None:
            # rows of chains are told what reaches them from all the others, written or not
            return blocks.map_reduce(AssignRows.over(scanned.blocks, fitted.model, writer).but(done))
        return blocks.map_reduce(SmoothRows(fitted.model, writer, asked.build(), done))

    if asked is None and (session.plan.resident or not done):
        return write(scanned.blocks)
    left = without(session.source.blocks(scanned.transform, halo), done, session.source.d)
    partitions = session.config.cluster.partitions
    with session.executor.open(left, resident=False, partitions=partitions) as opened:
        return write(session.passes(opened))


def _writer(session: Session, scanned: Scanned, fitted: Fitted) -> tuple[AssignmentWriter, frozenset[int]]:
    """The writer, and the blocks that are written already: by this same run, of this same model."""
    path, variables = session.folder.result, session.config.output.variables
    encoding = session.config.output.encoding.build()
    of = _digest(session, fitted)
    kept = session.checkpoints.latest("assign")
    if kept is not None and kept[1]["of"] == of and results.attempt(path) == kept[1]["attempt"]:
        writer = go_on_with(path, session.source, fitted.model.k, variables, encoding=encoding)
        blocks = session.source.blocks(scanned.transform)
        everything = frozenset(range(len(blocks)))
        partitions = session.config.cluster.partitions
        unread = without(blocks, everything, session.source.d)
        with session.executor.open(unread, resident=False, partitions=partitions) as opened:
            done = frozenset(session.passes(opened).map_reduce(LookAtWritten(writer)).blocks)
        session.observe(Note(f"{len(done):,} of {len(blocks):,} blocks are written already"))
        return writer, done
    attempt = secrets.token_hex(8)
    session.lease.confirm()
    results.create_result(path, {"attempt": attempt})
    writer = create_assignment(
        path, session.source, fitted.model.k, variables, {"candidate": fitted.chosen}, encoding=encoding
    )
    session.checkpoints.save("assign-000000", {}, {"of": of, "attempt": attempt})
    return writer, frozenset()


def _digest(session: Session, fitted: Fitted) -> str:
    """What decides the assignment: the run, and the parameters it came to."""
    found = hashlib.sha256(session.identity.encode())
    for name, value in sorted(fitted.model.model.arrays(fitted.model.params).items()):
        found.update(f"{fitted.chosen} {name} {np.shape(value)}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()
