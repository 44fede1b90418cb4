"""A claim worked off to its end, whatever the model answers: what goes wrong is an event or a fault."""

from __future__ import annotations

import time
from dataclasses import asdict

import psycopg

from revec.model.errors import AnswerInvalid, ColumnRefused, NotFound, ProviderError, StoreUnavailable
from revec.observe import events, traces
from revec.postgres import indexes
from revec.postgres.database import first_line
from revec.work.calls import LANES, NotNow
from revec.work.pack import Worksite
from revec.work.queue import Claim


async def work_off(site: Worksite, claim: Claim) -> None:
    """What became of it is in `site.done`; what could not be done was given back.

    Raises:
        psycopg.Error: the database failed; the leases run out.
    """
    with traces.span("revec pack", index=site.index.name, lane=LANES[claim.lane]) as span:
        await _worked_off(site, claim)
        span.set_attributes({f"revec.{name}": count for name, count in asdict(site.done).items()})


async def _worked_off(site: Worksite, claim: Claim) -> None:
    began = time.perf_counter()
    model = site.index.space.address
    try:
        await site.work_off(claim)
    except AnswerInvalid as error:
        await _fault(site, str(error))
    except psycopg.DataError as error:  # what was answered cannot be stored
        await _fault(site, f"an answer of {model} cannot be stored: {first_line(error)}")
    except (psycopg.errors.UndefinedTable, NotFound) as error:  # dropped meanwhile, and its work with it
        events.emit(events.TryAgain(first_line(error)))
    except ColumnRefused as error:
        await _fault_alone(site, str(error))
    except StoreUnavailable as error:
        events.emit(events.StoreFailed(site.index.place.store, str(error)))
    except NotNow as error:
        events.emit(events.HeldBack(model, str(error)))
    except ProviderError as error:
        events.emit(events.ProviderFailed(model, str(error)))
    except MemoryError:  # packs are smaller from now on
        events.emit(events.TryAgain("out of memory"))
        await site.database.renew()
    events.emit(events.PackDone(site.index.name, **asdict(site.done), seconds=time.perf_counter() - began))


async def _fault(site: Worksite, why: str) -> None:
    """Stop writing this space until a person has looked; its work stays."""
    async with site.database.transaction("worker") as conn:
        await indexes.fault(conn, site.index.space, why)
    events.emit(events.IndexFaulted(site.index.name, why))


async def _fault_alone(site: Worksite, why: str) -> None:
    """Its model is not to blame: other indexes of the space are written on."""
    async with site.database.transaction("worker") as conn:
        await indexes.fault_alone(conn, site.index.id, why)
    events.emit(events.IndexFaulted(site.index.name, why))
