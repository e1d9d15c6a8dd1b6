"""Capture files: read pcap and pcapng, write pcap."""
