"""Capture files: read and write pcap and pcapng."""
