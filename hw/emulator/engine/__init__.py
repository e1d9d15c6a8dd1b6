"""The C half of the software 82599, and what loads it."""
