"""The labs' checker: runs a student's script on an emulated 82599 that keeps a record, and says what the record shows."""
