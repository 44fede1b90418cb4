"""The loopback provider is a witness: its own rules are tested."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.loopback import Loopback, vectors
from tests.loopback.quota import Bucket, Clock, Exhausted, Quota, duration

Answer = tuple[int, dict[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def loopback(server: Loopback) -> Loopback:
    server.clear()
    return server


class Moment:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def ask(loopback: Loopback, *texts: str) -> Answer:
    client = http.client.HTTPConnection(urlsplit(loopback.url).netloc, timeout=10)
    client.request("POST", "/v1/embeddings", json.dumps({"model": "fake-8", "input": texts}))
    answer = client.getresponse()
    body = json.loads(answer.read())
    client.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


# --- the buckets --------------------------------------------------------------


def test_a_bucket_holds_a_minute_and_refills_all_the_time() -> None:
    bucket = Bucket(600, at=0.0)
    bucket.level = 0
    bucket.refill(1.5)
    assert bucket.level == 15
    assert bucket.wait(25) == 1
    bucket.refill(1_000)
    assert bucket.level == 600


def test_what_is_refused_takes_nothing() -> None:
    moment = Moment()
    quota = Quota(rpm=60, tpm=600, clock=Clock(monotonic=moment))
    quota.take(500)
    with pytest.raises(Exhausted) as caught:
        quota.take(200)
    assert (caught.value.what, caught.value.wait) == ("tokens", pytest.approx(10))
    moment.at += 10
    quota.take(200)
    assert quota.buckets["requests"].level == 59


def test_over_hours_no_more_than_the_rate_gets_through() -> None:
    """And a client that asks all the time gets all of it: one minute's worth at once, then the rate."""
    moment, through = Moment(), 0
    quota = Quota(rpm=None, tpm=6_000, clock=Clock(monotonic=moment))
    for _ in range(36_000):
        moment.at += 0.1
        try:
            quota.take(50)
        except Exhausted:
            continue
        through += 50
    assert through == pytest.approx(6_000 + 60 * 6_000, rel=0.001)


def test_a_thief_takes_his_share_of_what_flows_in() -> None:
    moment = Moment()
    quota = Quota(rpm=None, tpm=6_000, clock=Clock(monotonic=moment))
    quota.take(6_000)
    quota.steal(0.4)
    moment.at += 10
    quota.take(599)
    with pytest.raises(Exhausted) as caught:
        quota.take(60)
    assert caught.value.wait == pytest.approx(0.59, abs=0.01)  # it knows of no thief
    quota.steal(0.0)
    moment.at += 1
    quota.take(100)


def test_a_fast_clock_refills_fast() -> None:
    moment = Moment()
    quota = Quota(rpm=None, tpm=600, clock=Clock(20, monotonic=moment))
    quota.take(600)
    moment.at += 1
    quota.take(200)
    with pytest.raises(Exhausted):
        quota.take(1)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (59.94, "59.94s"), (360, "6m0s")]
)
def test_a_duration_is_written_as_providers_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# --- over the wire ------------------------------------------------------------


def test_good_answers_say_what_is_left(loopback: Loopback) -> None:
    loopback.limits(rpm=60, tpm=600)
    status, headers, body = ask(loopback, "x" * 39)
    assert status == 200
    assert body["usage"]["prompt_tokens"] == 10
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-limit-tokens"] == "600"
    assert headers["x-ratelimit-remaining-tokens"] == "590"
    assert headers["x-ratelimit-reset-tokens"] in {"1s", "1000ms", "999ms", "998ms"}


def test_without_limits_nothing_is_said_of_them(loopback: Loopback) -> None:
    _, headers, _ = ask(loopback, "a text")
    assert not [name for name in headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("style", ["seconds", "date", "none"])
def test_a_refusal_says_how_long_or_not(loopback: Loopback, style: str) -> None:
    loopback.limits(rpm=1, retry_after=style)
    assert ask(loopback, "one")[0] == 200
    status, headers, _ = ask(loopback, "two")
    assert (status, headers["x-ratelimit-remaining-requests"]) == (429, "0")
    said = headers.get("retry-after")
    if style == "seconds":
        assert said in {"59", "60"}
    elif style == "date":
        wait = parsedate_to_datetime(said or "") - parsedate_to_datetime(headers["date"])
        assert 58 <= wait.total_seconds() <= 61
    else:
        assert said is None


def test_another_application_is_felt_over_the_wire(loopback: Loopback) -> None:
    loopback.limits(tpm=600)
    loopback.steal(1.0)
    assert ask(loopback, "x" * 2_400)[0] == 429  # 600 are there, 600 and one are asked for
    assert ask(loopback, "x" * 2_396)[0] == 200
    time.sleep(0.15)  # a token in 0.1 s
    assert ask(loopback, "x")[0] == 429
    loopback.steal(0.0)
    time.sleep(0.15)
    assert ask(loopback, "x")[0] == 200


def test_a_request_is_a_line_of_the_log_whatever_became_of_it(loopback: Loopback) -> None:
    loopback.limits(tpm=10)
    ask(loopback, "x" * 39)
    ask(loopback, "one more", "and one more")
    loopback.fault("503")
    ask(loopback, "broken")
    shown = [(line["status"], line["tokens"], line["inputs"], line["fault"]) for line in loopback.log()]
    assert shown == [(200, 10, 1, None), (429, 7, 2, None), (503, 2, 1, "503")]
    assert len(loopback.bill()) == 1
    assert abs(loopback.log()[0]["time"] - time.time()) < 5


def test_a_fast_clock_is_the_providers_in_all_it_says() -> None:
    with Loopback(tpm=600, clock=600, latency=6.0) as fast:
        began = time.monotonic()
        assert ask(fast, "x" * 2_396)[0] == 200
        assert time.monotonic() - began < 3
        time.sleep(0.1)  # a minute of its own
        assert ask(fast, "x" * 2_396)[0] == 200
        first, second = (line["time"] for line in fast.log())
        assert second - first > 60


def test_clearing_brings_back_what_it_was_started_with() -> None:
    with Loopback(rpm=5) as started:
        started.limits()
        assert "x-ratelimit-limit-requests" not in ask(started, "a")[1]
        started.clear()
        assert ask(started, "a")[1]["x-ratelimit-remaining-requests"] == "4"


def test_real_models_are_counted_by_their_own_tokenizer(loopback: Loopback) -> None:
    client = http.client.HTTPConnection(urlsplit(loopback.url).netloc, timeout=10)
    body = {"model": "text-embedding-3-small", "input": ["tiktoken is great!"], "dimensions": 8}
    client.request("POST", "/v1/embeddings", json.dumps(body))
    answer = json.loads(client.getresponse().read())
    client.close()
    assert answer["usage"]["prompt_tokens"] == 6
    assert answer["data"][0]["embedding"] == pytest.approx(
        vectors(["tiktoken is great!"], "text-embedding-3-small", 8)[0].tolist()
    )
