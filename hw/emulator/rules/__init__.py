"""The 82599 datasheet's rules for a driver, a file a chapter, listed in book.py; findings.py, access.py and inspector.py apply them."""
