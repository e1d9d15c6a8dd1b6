"""VfioDevice without a NIC: the choice between group and iommufd, and the sentence of each error.

The tests with a real kernel run in a QEMU guest (tests/qemu).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
from typing import Any

import pytest

from ixrings.hw.errors import DeviceError, DmaError
from ixrings.hw.pci.discovery import look_up
from ixrings.hw.vfio.abi import BIND_TOKEN, BindIommufd, Request
from ixrings.hw.vfio.device import VfioDevice, Way, choose
from ixrings.hw.vfio.errors import map_error
from ixrings.hw.vfio.iommufd import Iommufd
from tests.support.sysfs_tree import Machine
from tests.support.vfio_kernel import Kernel

A, B = "0000:03:00.0", "0000:03:00.1"


def test_iommufd_is_chosen_if_the_kernel_has_it_and_permissions_allow_it(machine: Machine) -> None:
    path = machine.add(A, driver="vfio-pci")
    assert choose(look_up(A, machine.root), machine.root) is Way.GROUP
    (path / "vfio-dev/vfio0").mkdir(parents=True)
    (machine.root / "dev/vfio/devices").mkdir()
    (machine.root / "dev/vfio/devices/vfio0").touch()
    assert choose(look_up(A, machine.root), machine.root) is Way.GROUP
    (machine.root / "dev/iommu").touch()
    assert choose(look_up(A, machine.root), machine.root) is Way.CDEV


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"not bound to vfio-pci: its driver is ixgbe\. Run: ixrings bind 0000:03:00\.0"),
        ({"driver": ""}, r"not bound to vfio-pci: it has no driver\. Run: ixrings bind"),
        ({"device": 0x1572}, r"is a NIC, but not an 82599: it is 8086:1572"),
        ({"class_code": 0x0C0330, "device": 0x1E31}, r"is not a NIC: it is 8086:1e31"),
    ],
)
def test_an_unsuitable_device_is_refused_without_opening_it(
    machine: Machine, options: dict[str, Any], says: str
) -> None:
    machine.add(A, **options)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, root=machine.root)


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ({"SET_IOMMU": errno.EPERM}, r"does not remap interrupts.*allow_unsafe_interrupts"),
        ({"SET_IOMMU": errno.EINVAL}, r"\(Invalid argument\)\. The kernel's reason: sudo dmesg"),
        ({"GROUP_GET_DEVICE_FD": errno.EBUSY}, r"in use by another program; only one program at a time"),
        ({"GROUP_GET_DEVICE_FD": errno.ENODEV}, r"not bound to vfio-pci\. Run: ixrings bind"),
        (
            {"GROUP_SET_CONTAINER": errno.EINVAL},
            r"cannot be opened through VFIO group 12: Invalid argument\. Run: ixrings doctor",
        ),
    ],
)
def test_each_error_of_the_group_path_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fails: dict[str, int], says: str
) -> None:
    machine.add(A, driver="vfio-pci")
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**fails).ioctl)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, Way.GROUP, root=machine.root)


@pytest.mark.parametrize(("way", "refused"), [(Way.GROUP, "SET_IOMMU"), (Way.CDEV, "DEVICE_ATTACH_IOMMUFD_PT")])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])  # before and after Linux 6.6
def test_memory_that_the_firmware_reserves_is_named_when_the_kernel_refuses(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, way: Way, refused: str, number: int
) -> None:
    add_cdev(machine)
    regions = "0x000000007a000000 0x000000007a0fffff direct\n0x00000000fee00000 0x00000000feefffff msi\n"
    (machine.root / "sys/kernel/iommu_groups/12/reserved_regions").write_text(regions)
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**{refused: number}).ioctl)
    with pytest.raises(DeviceError, match=r"\(0x0+7a000000-0x0+7a0fffff: RMRR.*sudo dmesg") as error:
        VfioDevice(A, way, root=machine.root)
    assert "interrupts" not in str(error.value)


@pytest.mark.parametrize("remapped", ["  24:  0  IR-PCI-MSI 512000-edge  eth0\n", ""])
def test_interrupt_remapping_is_blamed_only_where_it_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, remapped: str
) -> None:
    machine.add(A, driver="vfio-pci")
    regions = "0x0000000000000000 0x0000000000ffffff direct-relaxable\n"
    (machine.root / "sys/kernel/iommu_groups/12/reserved_regions").write_text(regions)
    (machine.root / "proc/interrupts").write_text(remapped)
    monkeypatch.setattr(fcntl, "ioctl", Kernel(SET_IOMMU=errno.EPERM).ioctl)
    with pytest.raises(DeviceError) as error:
        VfioDevice(A, Way.GROUP, root=machine.root)
    assert ("remap" in str(error.value)) != bool(remapped)
    assert ("dmesg" in str(error.value)) == bool(remapped)


def test_the_error_for_a_group_that_is_not_viable_names_the_host_driver(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add(A, driver="vfio-pci")
    machine.add(B)
    kernel = Kernel()
    kernel.viable = False
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    with pytest.raises(DeviceError) as error:
        VfioDevice(A, root=machine.root)
    assert str(error.value) == f"Group 12 is not viable: {B} is bound to ixgbe. Run: ixrings bind {B}"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOENT, r"/12 does not exist\. Run: sudo modprobe vfio-pci"),
        (errno.EACCES, r"no permission to open .*/12.*--chown \$USER"),
        (errno.EPERM, r"refuses to open .*/12 .*not because of the file's owner.*--device .*/12$"),
        (errno.EBUSY, r"\(group 12\) is in use by another program"),
    ],
)
def test_each_error_of_opening_the_group_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    machine.add(A, driver="vfio-pci")
    really = os.open

    def refuse(path: str, flags: int, *more: int) -> int:
        if str(path).endswith("dev/vfio/12"):
            raise OSError(number, os.strerror(number))
        return really(path, flags, *more)

    monkeypatch.setattr(fcntl, "ioctl", Kernel().ioctl)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, root=machine.root)


def add_cdev(machine: Machine) -> None:
    (machine.add(A, driver="vfio-pci") / "vfio-dev/vfio0").mkdir(parents=True)
    (machine.root / "dev/vfio/devices").mkdir()
    (machine.root / "dev/vfio/devices/vfio0").touch()
    (machine.root / "dev/iommu").touch()


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ({"DEVICE_BIND_IOMMUFD": errno.EBUSY}, r"in use by another program"),
        ({"DEVICE_BIND_IOMMUFD": errno.EINVAL}, r"/dev/iommu \(Invalid argument\).*root sees it"),
        (
            {"DEVICE_ATTACH_IOMMUFD_PT": errno.EPERM},
            r"does not remap interrupts.*iommufd/parameters/allow_unsafe_interrupts",
        ),
        ({"IOAS_ALLOC": errno.ENOMEM}, r"cannot be opened through .*vfio0: Cannot allocate memory"),
    ],
)
def test_each_error_of_the_iommufd_path_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fails: dict[str, int], says: str
) -> None:
    add_cdev(machine)
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**fails).ioctl)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, root=machine.root)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOMEM, r"limit on locked memory is .*prlimit --memlock=unlimited"),
        (errno.EEXIST, "already mapped"),
        (errno.ENOSPC, "dma_entry_limit"),
        (errno.EINVAL, "not in a range that it translates"),
    ],
)
def test_each_error_of_mapping_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    add_cdev(machine)
    monkeypatch.setattr(fcntl, "ioctl", Kernel(IOAS_MAP=number).ioctl)
    space = Iommufd(look_up(A, machine.root), machine.root)
    try:
        with pytest.raises(DmaError, match=says):
            space.map(0x1000, 0x1000_0000, 4096)
    finally:
        space.close()


def test_the_error_of_locked_memory_shows_the_limit_of_this_process(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 << 10, limits[1]))
    try:
        machine.add(A)
        error = map_error(look_up(A, machine.root), OSError(errno.ENOMEM, ""), 0, 4096, machine.root)
        assert "is 64 KiB (ulimit -l)" in str(error)
        (machine.root / "proc/self").mkdir()
        (machine.root / "proc/self/status").write_text("CapEff:\t000001ffffffffff\n")
        error = map_error(look_up(A, machine.root), OSError(errno.ENOMEM, ""), 0, 4096, machine.root)
        assert "locked memory is not limited. Run: free -h" in str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)


def test_a_nic_without_an_iommu_is_opened_only_by_the_explicit_name(machine: Machine) -> None:
    machine.add(A, driver="vfio-pci", kind="")
    (machine.root / "dev/vfio/12").rename(machine.root / "dev/vfio/noiommu-12")
    with pytest.raises(DeviceError, match=r"has no IOMMU, so it can overwrite all memory.*vfio-noiommu:0000:03:00\.0"):
        VfioDevice(A, root=machine.root)
    (machine.root / "dev/vfio/noiommu-12").unlink()
    with pytest.raises(DeviceError, match="enable_unsafe_noiommu_mode"):
        VfioDevice(A, Way.NOIOMMU, root=machine.root)


def test_opening_without_an_iommu_warns(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add(A, driver="vfio-pci", kind="")
    (machine.root / "dev/vfio/12").rename(machine.root / "dev/vfio/noiommu-12")
    monkeypatch.setattr(fcntl, "ioctl", Kernel(GROUP_GET_DEVICE_FD=errno.EPERM).ioctl)
    with pytest.warns(RuntimeWarning, match="overwrites any memory of this machine"), pytest.raises(DeviceError):
        VfioDevice(A, Way.NOIOMMU, root=machine.root)


TOKEN = "11112222-3333-4444-5555-666677778888"


@pytest.mark.parametrize(
    ("way", "number", "token", "says"),
    [
        (Way.GROUP, errno.EACCES, "", r"needs a VF token.*vfio:0000:03:00\.0@vf_token=UUID"),
        (Way.GROUP, errno.EACCES, TOKEN, "has another VF token than 1111"),
        (Way.GROUP, errno.EINVAL, TOKEN, r"takes no VF token, .* Write vfio:0000:03:00\.0"),
        (Way.CDEV, errno.EACCES, "", "needs a VF token"),
        (Way.CDEV, errno.EINVAL, TOKEN, "takes no VF token, because"),
    ],
)
def test_an_error_of_the_token_says_what_to_write(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, way: Way, number: int, token: str, says: str
) -> None:
    """With real kernels: tests/qemu/test_sriov_guest.py, by group only."""
    add_cdev(machine)
    request = "GROUP_GET_DEVICE_FD" if way is Way.GROUP else "DEVICE_BIND_IOMMUFD"
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**{request: number}).ioctl)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, way, root=machine.root, vf_token=token)


def test_iommufd_and_group_get_the_token(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    add_cdev(machine)
    seen: list[object] = []

    class Listening(Kernel):
        def ioctl(self, fd: int, request: int, argument: object = 0, mutate: bool = True) -> int:
            if request == Request.GROUP_GET_DEVICE_FD and isinstance(argument, bytearray):
                seen.append(argument.decode())
            if isinstance(argument, BindIommufd):
                assert argument.flags == BIND_TOKEN
                seen.append(ctypes.string_at(argument.token_uuid_ptr, 16).hex())
            return super().ioctl(fd, request, argument, mutate)

    monkeypatch.setattr(fcntl, "ioctl", Listening(GROUP_UNSET_CONTAINER=errno.EBUSY).ioctl)
    for way in (Way.GROUP, Way.CDEV):
        with pytest.raises(DeviceError):
            VfioDevice(A, way, root=machine.root, vf_token=TOKEN)
    assert seen == [f"{A} vf_token={TOKEN}\0", TOKEN.replace("-", "")]
