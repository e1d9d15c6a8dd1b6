"""The C half of the software 82599, its loader, and the headers generated for it."""
