"""Tools that look: what happened, said once, shown in many ways."""
