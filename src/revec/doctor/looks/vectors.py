"""Looks at the vectors themselves, in a sample of blocks where the table is large."""

from __future__ import annotations

from revec.doctor.base import Look, Of, Severity
from revec.postgres.queries import beside

SQL = beside(__file__)

ZERO_VECTORS = Look(
    of=Of.COLUMN,
    severity=Severity.CRITICAL,
    query=SQL.zero_vectors,
    see=SQL.all_zero_vectors,
    sentence="{found:,} of {n:,} vectors of {subject} are zero or no numbers: no search by cosine finds "
    "these rows, and an approximate index leaves them out without a word",
    do="embed these rows again, and refuse such answers where vectors are written",
)
UNNORMALISED_VECTORS = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    query=SQL.unnormalised_vectors,
    see=SQL.all_unnormalised_vectors,
    sentence="{found:,} of {n:,} vectors of {subject} have not the length 1 ({shortest} to {longest}): {so}",
    do="find out which program wrote them; embed these rows again, or write every vector with the length 1",
)
MIXED_DIMS = Look(
    of=Of.COLUMN,
    severity=Severity.CRITICAL,
    query=SQL.mixed_dims,
    see=SQL.all_mixed_dims,
    sentence="{subject} holds vectors of several dims ({by_dims}): a search that meets the other ones "
    "fails, and nothing can be indexed",
    do="keep the model that queries are embedded by, embed the other rows again, then give the column its "
    "dims: `revec init` and a migration do it beside the column, without a stop",
)
MIXED_MODELS = Look(
    of=Of.COLUMN,
    severity=Severity.CRITICAL,
    needs=("model",),
    query=SQL.mixed_models,
    see=SQL.all_mixed_models,
    sentence="{subject} holds vectors of several models ({by_model}): their distances mean nothing to "
    "each other, so a search finds the rows of one model only",
    do="embed the other rows again by the model that queries use, or migrate all of them to one model: "
    "`revec init`, then `revec start`",
)
UNEQUAL_VECTORS = Look(
    of=Of.COLUMN,
    severity=Severity.CRITICAL,
    needs=("text",),
    query=SQL.unequal_vectors,
    see=SQL.all_unequal_vectors,
    sentence="{found:,} of {n:,} rows of {subject} have another vector than a row with the very same "
    "text: they are of two models, or of an older text",
    do="embed the rows of these texts again; where a model was changed, all rows",
)
DUPLICATE_VECTORS = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    query=SQL.duplicate_vectors,
    see=SQL.all_duplicate_vectors,
    sentence="{found:,} of {n:,} rows of {subject} share a vector with rows of another text "
    "({of_one_vector:,} the same one): a search cannot tell them apart",
    do="look at the texts of such rows: a fallback after an error, a text that was cut before it differs, "
    "or answers that were matched to the wrong texts; embed them again",
)
