"""NICs of one IOMMU group share its descriptors in one program. (Real kernel: tests/qemu/test_group_guest.py.)"""

from __future__ import annotations

import fcntl
import os

import pytest

from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.discovery import look_up
from ixrings.hw.vfio import abi
from ixrings.hw.vfio.abi import Request
from ixrings.hw.vfio.container import Container
from tests.support.sysfs_tree import Machine
from tests.support.vfio_kernel import Kernel

A, B = "0000:03:00.0", "0000:03:00.1"
SIZE = 4096


class GroupKernel(Kernel):
    """Records what is mapped, by descriptor of the container and IOVA."""

    def __init__(self) -> None:
        super().__init__()
        self.mapped: set[tuple[int, int]] = set()
        self.sets = 0

    def ioctl(self, fd: int, request: int, argument: object = 0, mutate: bool = True) -> int:
        if request == Request.GROUP_GET_DEVICE_FD:
            return os.open("/dev/null", os.O_RDWR)
        if isinstance(argument, abi.DmaMap):
            self.mapped.add((fd, argument.iova))
        elif isinstance(argument, abi.DmaUnmap):
            self.mapped.remove((fd, argument.iova))
        self.sets += request == Request.GROUP_SET_CONTAINER
        return super().ioctl(fd, request, argument, mutate)


@pytest.fixture
def kernel(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> GroupKernel:
    for address in (A, B):
        machine.add(address, driver="vfio-pci")
    kernel = GroupKernel()
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    return kernel


def take(space: Container) -> int:
    assert space.iova is not None
    iova = space.iova.take(SIZE)
    space.map(0x1000, iova, SIZE)
    return iova


def test_two_functions_share_a_group_and_close_unmaps_what_a_function_left_mapped(
    machine: Machine, kernel: GroupKernel
) -> None:
    a, b = (Container(look_up(address, machine.root), machine.root) for address in (A, B))
    assert a.iova is b.iova and kernel.sets == 1
    first, second = take(a), take(b)
    assert first != second
    a.close()
    assert [iova for _, iova in kernel.mapped] == [second]
    again = Container(look_up(A, machine.root), machine.root)
    assert kernel.sets == 1 and take(again) == first
    again.close()
    b.close()
    assert kernel.mapped == set()


def test_the_last_close_closes_the_group_and_the_next_open_opens_it_again(
    machine: Machine, kernel: GroupKernel
) -> None:
    for opened in (1, 2):
        space = Container(look_up(A, machine.root), machine.root)
        assert kernel.sets == opened
        space.close()
        space.close()


def test_a_function_that_is_already_open_in_this_program_is_refused(machine: Machine, kernel: GroupKernel) -> None:
    space = Container(look_up(A, machine.root), machine.root)
    try:
        with pytest.raises(
            DeviceError, match=f"^{A} is already open in this program; close that port first, or use it$"
        ):
            Container(look_up(A, machine.root), machine.root)
    finally:
        space.close()


def test_a_forked_child_does_not_use_its_parents_group(machine: Machine, kernel: GroupKernel) -> None:
    space = Container(look_up(A, machine.root), machine.root)
    child = os.fork()
    if not child:
        try:
            Container(look_up(B, machine.root), machine.root)
        finally:
            os._exit(kernel.sets)  # 2: the child opened the group itself; a real kernel would answer EBUSY
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    space.close()
