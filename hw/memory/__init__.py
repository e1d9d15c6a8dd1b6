"""Memory for DMA: its pages, and its addresses as a device sees them."""
