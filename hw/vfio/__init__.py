"""`VfioDevice`: an 82599 through the kernel's VFIO, by IOMMU group or by iommufd."""

from .device import VfioDevice, Way

__all__ = ["VfioDevice", "Way"]
