"""The pages, a module each: `router`, and `TAB` where it stands in the navigation."""
