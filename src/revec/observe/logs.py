"""Events as JSON lines on standard error: one object each, never with a document's text."""

from __future__ import annotations

import sys
from dataclasses import asdict

import structlog

from revec.observe.events import Event


def log_json(event: Event) -> None:
    """A listener: the event's name, its fields, the time in UTC."""
    structlog.get_logger().info(type(event).__name__, **asdict(event))


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
