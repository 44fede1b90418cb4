"""The parts of a plan: what there is, what it becomes, what that takes and costs, and how it is told."""
