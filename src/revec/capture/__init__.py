"""From the users' tables to documents: triggers that cannot fail, a projector that re-reads."""
