"""An 82599 through the kernel's VFIO, by IOMMU group or by iommufd; `VfioDevice` is a Device like any other."""

from .device import VfioDevice, Way

__all__ = ["VfioDevice", "Way"]
