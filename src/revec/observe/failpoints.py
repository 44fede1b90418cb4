"""Named places where a test may end the process. Inert unless REVEC_FAILPOINT names one.

REVEC_FAILPOINT=name[:n]   the n-th passing (default 1) of that place is the last
REVEC_FAILPOINT_HIT=path   the name is written there first: a run that hit nothing proves nothing
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

NAMES = (
    "change_claimed",  # projector: changes read, documents not yet written
    "changes_projected",  # projector: before the commit
    "backfill_page_enqueued",  # conductor: before the commit
    "claim_committed",  # worker: leases held, nothing embedded
    "paid_leased",  # worker: the right to pay is held
    "before_send",  # worker: the request is about to leave
    "after_response",  # worker: paid, not written
    "points_intended",  # worker: tombstones are committed, nothing is put into the store elsewhere
    "points_put",  # worker: the store has the points, nothing here refers to them
    "vectors_written",  # worker: in the transaction, before the work is settled
    "before_commit",  # worker: all is written, nothing is committed
    "after_commit",  # worker: written and settled
    "points_condemned",  # upkeep: committed, nothing is deleted
    "points_deleted",  # upkeep: the tombstones are still there
    "folded",  # lexical leg: before the commit
    "batch_intended",  # batches: written down, nothing sent
    "batch_uploaded",  # batches: the texts are there, nothing is begun
    "batch_submitted",  # batches: begun, and its id not written down
    "batch_answered",  # batches: done at the provider, nothing collected
    "batch_kept",  # batches: every answer is kept, no document is due
    "batch_collected",  # batches: before the commit
    "flipped",  # switch: the route is moved, nothing is committed
    "shown",  # canary: the same for some users
    "guard_fired",  # guard: what it saw is kept, nothing is moved
    "walk_page",  # reconcile: enqueued, and the cursor is where it was
    "webhook_sent",  # telling: it was heard, and that is not written down
)

_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Kill this process here if a test asked for it."""
    asked = os.environ.get("REVEC_FAILPOINT")
    if not asked:
        return
    wanted, _, nth = asked.partition(":")
    if name != wanted:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] < int(nth or 1):
        return
    if hit := os.environ.get("REVEC_FAILPOINT_HIT"):
        Path(hit).write_text(name, encoding="utf-8")
    os.kill(os.getpid(), signal.SIGKILL)
