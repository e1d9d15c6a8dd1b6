"""Memory that the NIC may access: an IOMMU's rules, not the datasheet's. Every policy records DMA faults."""

from __future__ import annotations

from ..engine.findings import FindingKind
from .findings import ERROR, IOMMU, Found, Rule

DMA_READ = Rule(
    "dma_read",
    IOMMU,
    ERROR,
    "The NIC reads only memory that is mapped for it",
    found=(
        Found(
            FindingKind.DMA_READ,
            "queue {queue}",
            "queue {queue} read {second} bytes at IOVA {first:#x}, which is not mapped",
        ),
    ),
)

DMA_WRITE = Rule(
    "dma_write",
    IOMMU,
    ERROR,
    "The NIC writes only memory that is mapped for it",
    found=(
        Found(
            FindingKind.DMA_WRITE,
            "queue {queue}",
            "queue {queue} wrote {second} bytes at IOVA {first:#x}, which is not mapped",
        ),
    ),
)
