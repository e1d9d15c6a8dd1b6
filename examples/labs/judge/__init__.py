"""The checker of the labs: runs a student's script on an emulated 82599 that records every access, and judges it by
that record (driver/README.md, contract 10)."""
