"""Events as JSON lines on standard error: one object each, never with a document's text or a query's.

Each says of which request, migration or worker it is, and of which trace, as far as there is one.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

import structlog

from revec.observe import context, events, traces
from revec.observe.events import Event


def log_json(event: Event) -> None:
    """A listener: the event's name, its fields, the time in UTC. What is only a figure is in the metrics."""
    if isinstance(event, events.FIGURES):
        return
    structlog.get_logger().info(type(event).__name__, **{**context.about(), **traces.ids(), **asdict(event)})


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
