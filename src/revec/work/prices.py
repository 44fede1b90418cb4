"""What a model's tokens cost, from the offline table of `genai-prices`."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

MILLION = 1_000_000
SELLERS = {"gemini": "google", "voyage": "voyageai"}  # where the table calls a provider otherwise


@cache
def price(address: str) -> Decimal | None:
    """US dollars for a million tokens of input; 0 for models of this process; None: nobody knows."""
    provider, _, model = address.partition(":")
    if provider in {"local", "sentence_transformers"}:
        return Decimal(0)
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    try:
        return calc_price(
            Usage(input_tokens=MILLION), model_ref=model, provider_id=SELLERS.get(provider, provider)
        ).total_price
    except LookupError:
        return None
