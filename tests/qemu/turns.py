"""The days on which `.ci/run` runs a guest, for guests that have a sibling of their kind.

All guests take more than half an hour. So CI runs half of the siblings on even days and the other half on odd days
(counted from 1970-01-01, UTC). A guest that is not named here runs each day.
"""

from __future__ import annotations

TURN = "IXRINGS_LAB_TURN"  # "even" or "odd": leave out the guests of the other days
DAYS = {  # the file, and the parameter of its guest
    "test_our_driver[vfio-group]": "even",
    "test_our_driver[iommufd]": "odd",
    "test_our_driver[uio]": "odd",
    "test_our_driver[igb_uio]": "even",
    "test_our_driver[vfio-noiommu]": "even",
    "test_vfio_guest[group]": "odd",
    "test_vfio_guest[iommufd]": "even",
    "test_group_guest[group]": "even",
    "test_group_guest[iommufd]": "odd",
    "test_dma_guest[group]": "odd",
    "test_dma_guest[iommufd]": "even",
    "test_readme_guest[group]": "even",
    "test_readme_guest[iommufd]": "odd",
    "test_daemon_guest": "odd",  # on even days a daemon runs in test_uio_guest
    "test_uio_guest": "even",  # on odd days test_our_driver[uio] runs
    "test_linux_ixgbe": "odd",  # on even days Linux's ixgbe runs in test_linux_filters
    "test_linux_filters": "even",
    "test_linux_pair": "even",
    "test_linux_emulate": "even",
    "test_linux_intx": "odd",
    "test_linux_ptp": "odd",
    "test_linux_vf": "even",  # on odd days ixgbevf runs in test_linux_vfs
    "test_linux_vfs": "odd",
    "test_linux_vf_emulate": "odd",
    "test_linux_vmdq": "even",
    "test_linux_vf_host": "even",
    "test_dpdk": "odd",
    "test_ipxe": "odd",
    "test_vf_guest[group]": "even",
    "test_vf_guest[iommufd]": "odd",
    "test_vf_guest[noiommu]": "odd",
    "test_dpdk_vf[linux]": "even",
    "test_dpdk_vf[dpdk]": "odd",
    "test_sriov_guest": "even",
}


def is_of(name: str, guest: str) -> bool:
    """Whether the test `name`, as in test_dma_guest[group-transmit-True], runs in `guest`."""
    return name == guest or name.startswith((f"{guest}[", f"{guest.removesuffix(']')}-"))


def has_its_turn(name: str, turn: str) -> bool:
    """Whether the test runs on the days `turn`."""
    return all(days == turn for guest, days in DAYS.items() if is_of(name, guest))
