"""The 82599 datasheet's rules for a driver, one file per chapter (book.py lists them).

findings.py defines rules and violations, access.py what a rule sees, inspector.py checks accesses against the rules.
"""
