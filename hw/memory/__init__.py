"""Memory for DMA: its pages, and the addresses that a device uses for it."""
