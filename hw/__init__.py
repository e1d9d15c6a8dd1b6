"""How to reach an 82599, real or emulated. No policy, no rings: those are driver/ and rings/."""
