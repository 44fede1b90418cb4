"""Every error of ours: a sentence with its nouns and the way out.

RevecError
├── BadInput              what was handed in cannot be used as it is
├── NotFound              no such collection, index, migration
├── Refused               right request, wrong state: the next command is named
├── GateNotMet            a required gate did not pass, or cannot tell yet
├── NotIdentified         who asks is not known: no key, or one that opens nothing
├── NotAllowed            who asks is known, and may not
├── TooMuch               the caller's purse is empty: later again
├── Unavailable           the database or a server cannot be reached
│   └── StoreUnavailable      a store of vectors does not answer: try later
│       ├── StoreLost             it answers, and has lost a whole index: restore it, or move away
│       └── ColumnRefused         a user's table, which does not take our vectors: a person has to mend it
├── MissingExtra          a package of an optional extra is not installed
└── ProviderError         something went wrong between us and an embedding model
    ├── ProviderUnavailable   the provider's fault: try later, burn no attempt
    ├── InputRefused          these inputs' fault: bisect, bury the culprit
    └── AnswerInvalid         the model's answer cannot be trusted: stop writing this space
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RevecError(Exception):
    """The root: `str(error)` is fit to be shown to a person."""


class BadInput(RevecError):
    """What was handed in cannot be used as it is."""


class NotFound(RevecError):
    """No such collection, index or migration."""


class Refused(RevecError):
    """The request is right but the state is not; the sentence names the next command."""


class GateNotMet(RevecError):
    """A required gate did not pass, or cannot tell yet."""


class NotIdentified(RevecError):
    """Nobody is known by what was shown; the sentence never says what was wrong with it."""


class NotAllowed(RevecError):
    """The caller is known and may not do this."""


class TooMuch(RevecError):
    """The caller's purse of requests is empty."""

    def __init__(self, sentence: str, *, retry_after: float) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after  # seconds


class Unavailable(RevecError):
    """The database or a server of ours cannot be reached."""


class StoreUnavailable(Unavailable):
    """A store of vectors elsewhere does not answer, or not as it should."""


class StoreLost(StoreUnavailable):
    """A store elsewhere answers, and no longer knows an index that should live there."""


class ColumnRefused(StoreUnavailable):
    """A user's table does not take the vectors of its adopted column: no right, a trigger, a constraint."""


class MissingExtra(RevecError):
    """An optional package is needed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'revec[{extra}]'")


def without_numpy(error: BaseException) -> MissingExtra | None:
    """What a door says where vectors should be reckoned with and nothing here can; None of other errors."""
    if isinstance(error, ModuleNotFoundError) and error.name == "numpy":  # it comes with the models' extras
        return MissingExtra("reckoning with vectors", "local")
    return None


class ProviderError(RevecError):
    """Something went wrong between us and an embedding model."""


class Trouble(StrEnum):
    """What ails a provider."""

    AUTH = "auth"  # no key, a wrong one, no such model: a person has to mend it
    QUOTA = "quota"  # no money, no plan: the same
    RATE = "rate"  # too much at once: it said 429
    SERVER = "server"  # it failed, or cannot be reached
    TIMEOUT = "timeout"  # no answer in time: perhaps billed


class ProviderUnavailable(ProviderError):
    """The provider is at fault (auth, quota, rate, server, time-out): no document is to blame."""

    def __init__(
        self,
        sentence: str,
        *,
        trouble: Trouble = Trouble.SERVER,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.trouble = trouble
        self.retry_after = retry_after  # seconds, where the provider said so
        self.headers = headers or {}  # of its answer, where there was one


class InputRefused(ProviderError):
    """The provider refused these inputs (400, 413, 422): one of them is to blame."""

    def __init__(self, sentence: str, *, too_large: bool = False) -> None:
        super().__init__(sentence)
        self.too_large = too_large  # all of them together: perhaps none is to blame


class AnswerInvalid(ProviderError):
    """Wrong count, order, dims, NaN, zero: nothing of this answer may be written."""
