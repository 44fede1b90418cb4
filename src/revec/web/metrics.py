"""What this server did, as Prometheus reads it: requests by route and status, and how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Times:
    """One histogram; its last bucket is for what took longer than all of BUCKETS."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Metrics:
    """Routes are named by their templates, so that no document's id and no tenant is in here."""

    def __init__(self, searches: Mapping[tuple[str, int, str], int]) -> None:
        """`searches`: how many, by index, epoch and how each went; counted where they are answered."""
        self.in_flight = 0
        self._searches = searches
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._times: dict[str, Times] = {}

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests[method if method in METHODS else "other", route, status] += 1
        self._times.setdefault(route, Times()).add(seconds)

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "# HELP revec_http_requests_in_flight Requests that are being answered."
        yield "# TYPE revec_http_requests_in_flight gauge"
        yield f"revec_http_requests_in_flight {self.in_flight}"
        yield "# HELP revec_http_requests_total Requests that were answered."
        yield "# TYPE revec_http_requests_total counter"
        for (method, route, status), count in sorted(self._requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            yield f"revec_http_requests_total{{{labels}}} {count}"
        yield "# HELP revec_searches_total Searches by the index that was to answer, epoch, and outcome."
        yield "# TYPE revec_searches_total counter"
        for (index, epoch, how), count in sorted(self._searches.items()):
            yield f'revec_searches_total{{index="{_quoted(index)}",epoch="{epoch}",how="{how}"}} {count}'
        yield "# HELP revec_http_request_duration_seconds From a request's head to the end of its answer."
        yield "# TYPE revec_http_request_duration_seconds histogram"
        for route, times in sorted(self._times.items()):
            yield from _histogram(f'route="{route}"', times)


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _histogram(label: str, times: Times) -> Iterator[str]:
    name = "revec_http_request_duration_seconds"
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], accumulate(times.counts), strict=True):
        yield f'{name}_bucket{{{label},le="{bound}"}} {count}'
    yield f"{name}_sum{{{label}}} {times.seconds:.6f}"
    yield f"{name}_count{{{label}}} {sum(times.counts)}"
