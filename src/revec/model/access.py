"""Who asks, and what they may do: the caller behind a key or a token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from revec.model.filter import Filter


class Role(StrEnum):
    """What a caller may do; each may do what the ones before it may."""

    VIEWER = "viewer"  # search
    OPERATOR = "operator"  # read everything that its tenant has
    ADMIN = "admin"  # write documents, move migrations

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


MAY = {  # what each role adds to the one before it
    Role.VIEWER: "searches and compares in the documents of one tenant",
    Role.OPERATOR: "reads everything that its tenants have; of all tenants: judges, looks after the queue",
    Role.ADMIN: "writes documents, moves migrations, makes and revokes keys",
}


@dataclass(frozen=True, slots=True)
class Caller:
    name: str  # a key's prefix, or the subject of a token: for the history and the logs
    role: Role
    tenant: str | None  # None: of all tenants
    collection: str | None = None  # None: of all collections
    visible: Filter | None = None  # joined to whatever is asked for; None: everything
    person: str | None = None  # who stays with one index during a canary; None: a key, which speaks for many

    def reaches(self, collection: str) -> bool:
        return self.collection in {None, collection}

    @property
    def is_unbound(self) -> bool:
        """Nothing is hidden from them: neither tenants nor collections nor documents."""
        return self.tenant is None and self.collection is None and self.visible is None

    @property
    def purse(self) -> str:
        """Whose requests these are: its tenant's, or its own where it is for all of them."""
        return f"caller {self.name}" if self.tenant is None else f"tenant {self.tenant}"
