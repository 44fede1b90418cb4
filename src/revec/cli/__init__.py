"""The command `revec`: it translates and never decides."""
