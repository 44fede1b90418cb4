"""What watches Revec from outside: dashboards, alert rules, an example of their route."""
