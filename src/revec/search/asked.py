"""The SQL of a caller: what `revec function` prints and runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from revec.capture.mapping import Mapping
from revec.model.document import DEFAULT_TENANT
from revec.model.index import Collection
from revec.postgres import callers
from revec.search.signature import Given, Means, Taken, raw

SQL = callers.SQL
NOTHING = sql.SQL("NULL")
MOST = 1_000_000  # hits


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks, as the statements that make it."""

    collection: Collection
    mapping: Mapping
    schema: str
    name: str
    arguments: Sequence[Taken]
    columns: Sequence[Given]
    tenant: str  # SQL, over the arguments
    home: str | None  # the space on whose scale its scores are
    spare: int  # times as many hits are looked for as are wanted

    @property
    def identity(self) -> str:
        """schema.name(types), wherever the path leads."""
        return f"{self._function(self.name)}({', '.join(each.type for each in self.arguments)})"

    @property
    def model_identity(self) -> str:
        return f"{self._function(self._model)}({', '.join(each.type for each in self._whose)})"

    @property
    def statements(self) -> list[sql.Composed]:
        return [self._search(), self._asks(), self._kept()]

    @property
    def _model(self) -> str:
        return f"{self.name}_model"

    @property
    def _whose(self) -> list[Taken]:
        return [each for each in self.arguments if each.means is Means.TENANT]

    def _function(self, name: str) -> str:
        return sql.Identifier(self.schema, name).as_string()

    def _search(self) -> sql.Composed:
        rows = [each for each in self.columns if each.expression is not None]
        return SQL.search.format(
            function=sql.Identifier(self.schema, self.name),
            arguments=_listed(each.declared for each in self.arguments),
            columns=_listed(
                sql.SQL("{} {}").format(sql.Identifier(c.name), raw(c.type)) for c in self.columns
            ),
            results=_listed(map(_result, self.columns)),
            tenant=raw(self.tenant),
            collection=sql.Literal(self.collection.name),
            source=sql.Literal(self.mapping.table),
            query=self._argument(Means.QUERY, "{it}::{vector}"),
            threshold=self._argument(Means.THRESHOLD, "{it}::double precision"),
            count=self._argument(Means.COUNT, "{it}"),
            most=self._argument(Means.COUNT, f"least({{it}} * {self.spare}::bigint, {MOST})::integer"),
            space=self._argument(Means.SPACE, "{it}::text"),
            home=sql.Literal(self.home),
            row=_listed(
                [sql.SQL("({}) AS {}").format(raw(c.expression or ""), sql.Identifier(c.name)) for c in rows]
                or [sql.SQL("1 AS nothing")]
            ),
            table=self.mapping.relation,
            is_hit=self.mapping.is_row_of(sql.SQL("revec_hit.key")),
            filter=raw(self.mapping.filter),
            row_tenant=raw(self.mapping.tenant),
            nobody=sql.Literal(DEFAULT_TENANT),
        )

    def _asks(self) -> sql.Composed:
        """It takes the tenant where the search does, and nothing else."""
        return SQL.model.format(
            function=sql.Identifier(self.schema, self._model),
            arguments=_listed(each.declared for each in self._whose),
            collection=sql.Literal(self.collection.name),
            tenant=sql.SQL("$1") if self._whose else raw(self.tenant),
        )

    def _kept(self) -> sql.Composed:
        return SQL.keep.format(
            function=sql.Literal(self.identity),
            collection=sql.Literal(self.collection.id),
            home=sql.Literal(self.home),
            says_space=sql.Literal(any(each.means is Means.SPACE for each in self.arguments)),
        )

    def _argument(self, means: Means, written: str) -> sql.Composable:
        """NULL where nothing means that."""
        for place, each in enumerate(self.arguments, 1):
            if each.means is means:
                return raw(written.format(it=f"${place}", vector=_vector(each.type)))
        return NOTHING


def _vector(type_name: str) -> str:
    """A halfvec is handed on as a vector, of the same extension."""
    return type_name.removesuffix("halfvec") + "vector" if type_name.endswith("halfvec") else type_name


def _result(column: Given) -> sql.Composable:
    if column.expression is None:
        return raw(f"revec_hit.score::{column.type}")
    return sql.SQL("revec_row.{}::{}").format(sql.Identifier(column.name), raw(column.type))


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
