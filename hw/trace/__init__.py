"""Register traces: device.py records them around a device, file.py reads them from a file."""
