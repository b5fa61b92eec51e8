"""Trying again: as the endpoint says, with growing pauses, never beyond the deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from lmmsae_eval.errors import ChatError, UsageError
from lmmsae_eval.harness.retry import PassingError, Policy, attempts, retry_after


class Flaky:
    """Fails as often as it is told to, then says 'done'; `slept` are the pauses in between."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.slept: list[float] = []

    def call(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    def run(self, policy: Policy) -> tuple[str, int]:
        return attempts(self.call, policy, self.slept.append)


def test_the_endpoint_s_own_pause_is_kept_to() -> None:
    flaky = Flaky(PassingError("busy", wait=7.0), PassingError("busy", wait=0.0))

    assert flaky.run(Policy()) == ("done", 3)
    assert flaky.slept == [7.0, 0.0]


def test_without_one_pauses_grow_and_are_never_quite_the_same() -> None:
    flaky = Flaky(*(PassingError("busy") for _ in range(4)))

    flaky.run(Policy(pause=1.0))

    for at, pause in enumerate(flaky.slept):
        assert 0.75 * 2**at <= pause <= 1.25 * 2**at


def test_a_pause_beyond_the_deadline_is_not_begun() -> None:
    flaky = Flaky(PassingError("busy", wait=3600.0))

    with pytest.raises(ChatError, match="asks to wait 3600 s; given up within 300 s"):
        flaky.run(Policy(total=300))
    assert flaky.slept == []


def test_after_so_many_attempts_it_is_an_error() -> None:
    flaky = Flaky(*(PassingError("busy") for _ in range(9)))

    with pytest.raises(ChatError, match="busy"):
        flaky.run(Policy(retries=2))
    assert len(flaky.slept) == 2


@pytest.mark.parametrize("error", [ChatError("no"), UsageError("no"), KeyError("no")])
def test_what_lasts_is_not_tried_again(error: Exception) -> None:
    flaky = Flaky(error)

    with pytest.raises(type(error)):
        flaky.run(Policy())
    assert flaky.slept == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    then = datetime.now(UTC) + timedelta(seconds=60)

    assert retry_after({"retry-after": format_datetime(then, usegmt=True)}) == pytest.approx(
        60, abs=3
    )
    past = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after(past) == 0
