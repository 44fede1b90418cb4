"""Looks at how tenants are kept apart, and at what that costs them."""

from __future__ import annotations

from revec.doctor.base import Look, Of, Severity
from revec.postgres.queries import beside

SQL = beside(__file__)

TENANT_WITHOUT_BTREE = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    needs=("tenant",),
    query=SQL.tenant_without_btree,
    by_catalog=True,
    sentence="{table} has an approximate index and no index on {tenant}: a search for a small tenant goes "
    "through everybody's vectors and may find nothing",
    do="CREATE INDEX CONCURRENTLY ON {table} ({tenant}), so that a small tenant is scanned exactly; and "
    "SET LOCAL hnsw.iterative_scan = relaxed_order for the large ones",
)
ROW_SECURITY_NOT_FORCED = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    query=SQL.row_security_not_forced,
    by_catalog=True,
    see=SQL.see_policies,
    sentence="row security of {table} is on and does not bind its owner, {owner}: whoever connects as the "
    "owner sees every tenant's rows",
    do="ALTER TABLE {table} FORCE ROW LEVEL SECURITY, or let applications connect as another role",
)
ROW_SECURITY_WITHOUT_POLICY = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    query=SQL.row_security_without_policy,
    by_catalog=True,
    see=SQL.see_policies,
    sentence="row security of {table} is on and it has no policy: nobody but its owner and superusers "
    "sees a row, and a search comes back empty without an error",
    do="CREATE POLICY … ON {table} USING (…) for the roles that search, or switch its row security off",
)
POLICY_FOR_EVERYBODY = Look(
    of=Of.COLUMN,
    severity=Severity.CRITICAL,
    query=SQL.policy_for_everybody,
    by_catalog=True,
    see=SQL.see_policies,
    sentence="policy {policy} of {table} lets every role through without a condition: permissive policies "
    "add up, so it opens what the others close",
    do="DROP POLICY {policy} ON {table}, or give it a role (TO …) and a condition",
)
PAST_ROW_SECURITY = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    query=SQL.past_row_security,
    by_catalog=True,
    see=SQL.see_policies,
    sentence="{what} reads {table} as {owner}, whom its row security does not bind: who may use it sees "
    "every tenant's rows",
    do="{way_out}; or have it owned by a role that row security binds",
)
NO_ROW_SECURITY = Look(
    of=Of.COLUMN,
    severity=Severity.NOTE,
    needs=("tenant",),
    query=SQL.no_row_security,
    by_catalog=True,
    see=SQL.see_policies,
    sentence="only the queries' own condition on {tenant} keeps the tenants of {table} apart: one layer",
    do="ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, and a policy on "
    "{tenant}: one forgotten condition then shows nothing",
)
