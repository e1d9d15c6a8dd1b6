"""How to reach an 82599, real or emulated. Policy is in driver/, rings are in rings/."""
