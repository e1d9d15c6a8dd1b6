"""Memory for DMA: its pages, and the addresses at which a device finds it."""
