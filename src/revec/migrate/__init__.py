"""The migration: plan, backfill, verify, cut over, roll back, finish."""
