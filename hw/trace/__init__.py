"""Register traces: recorded around a device, and read back from a file."""
