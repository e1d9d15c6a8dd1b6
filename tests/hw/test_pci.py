"""hw/pci on a simulated machine: discovery, reasons why a NIC cannot be opened, binding all or nothing, doctor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ixrings.driver.cli.nic import under_their_pf
from ixrings.driver.names import parse_port_name, pci_address
from ixrings.driver.virtual_function import host_of
from ixrings.hw.errors import BindError, DeviceError, NoSuchFunction
from ixrings.hw.pci import sriov
from ixrings.hw.pci.binding import bind, unbind
from ixrings.hw.pci.discovery import find_nics, look_up
from ixrings.hw.pci.doctor import examine
from ixrings.hw.pci.nodes import holders
from ixrings.hw.pci.notes import remembered
from ixrings.hw.pci.usable import why_not
from tests.support.sysfs_tree import Machine

A, B, C = "0000:03:00.0", "0000:03:00.1", "0000:04:00.0"


def test_a_nic_is_described_from_sysfs(machine: Machine) -> None:
    machine.add(A, netdev="enp3s0f0", numa=1)
    machine.add(B)
    machine.add(C, vendor=0x14E4, device=0x1657, driver="tg3", group=13)
    machine.add("0000:00:01.0", class_code=0x060400, driver="pcieport", group=1)
    nics = find_nics(machine.root)
    assert [(nic.address, nic.name, nic.driver) for nic in nics] == [
        (A, "82599ES SFI/SFP+", "ixgbe"),
        (B, "82599ES SFI/SFP+", "ixgbe"),
        (C, "14e4:1657", "tg3"),
    ]
    assert (nics[0].netdevs, nics[0].link, nics[0].iommu_group, nics[0].group_members, nics[0].numa_node) == (
        ("enp3s0f0",),
        "up, 10 Gbit/s",
        12,
        (B,),
        1,
    )
    assert why_not(nics[2], machine.root) == "not an 82599"
    with pytest.raises(NoSuchFunction, match="ixrings list"):
        look_up("0000:05:00.0", machine.root)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, f"its driver is ixgbe. Run: ixrings bind {A}"),
        ({"driver": ""}, f"no driver. Run: ixrings bind {A}"),
        ({"driver": "vfio-pci"}, ""),
        ({"driver": "vfio-pci", "group": None}, "vfio-pci without an IOMMU"),
        ({"driver": "uio_pci_generic", "group": None}, ""),
        ({"driver": "uio_pci_generic", "kind": "identity"}, ""),
        ({"driver": "uio_pci_generic"}, "the IOMMU translates"),
        ({"device": 0x10ED}, f"its driver is ixgbe. Run: ixrings bind {A}"),
        ({"device": 0x10ED, "driver": "vfio-pci"}, ""),
        ({"device": 0x10ED, "driver": "uio_pci_generic"}, "a virtual function has no interrupt line"),
        ({"device": 0x151C}, "an 82599 without SFP+"),
        ({"device": 0x1572}, "not an 82599"),
    ],
)
def test_a_nic_is_usable_or_a_sentence_says_why_not(machine: Machine, options: dict[str, Any], says: str) -> None:
    if options.get("driver") == "vfio-pci" and options.get("group", 12) is None:
        options = {**options, "driver": ""}
        machine.add(A, **options)
        (machine.root / "sys/bus/pci/devices" / A / "driver").symlink_to(machine.root / "sys/bus/pci/drivers/vfio-pci")
    else:
        machine.add(A, **options)
    reason = why_not(look_up(A, machine.root), machine.root)
    assert reason.startswith(says) if says else reason == ""


def test_a_group_with_a_host_driver_is_not_viable_and_the_error_has_the_command(machine: Machine) -> None:
    machine.add(A, driver="vfio-pci")
    machine.add(B)
    machine.add("0000:00:01.0", class_code=0x060400, driver="pcieport")
    assert (
        why_not(look_up(A, machine.root), machine.root)
        == f"Group 12 is not viable: {B} is bound to ixgbe. Run: ixrings bind {B}"
    )


def test_unbind_undoes_bind_and_returns_the_interface(machine: Machine) -> None:
    machine.add(A, netdev="enp3s0f0")
    for _ in range(2):
        (bound,) = bind(A, root=machine.root)
        assert (machine.driver(A), bound.former, bound.blockers) == ("vfio-pci", "ixgbe", ())
        assert bound.nodes == (machine.root / "dev/vfio/12",)
        assert remembered(A, machine.root) == {"driver": "ixgbe", "netdev": "enp3s0f0"}
        nic, netdev = unbind(A, root=machine.root)
        assert (nic.driver, netdev, remembered(A, machine.root)) == ("ixgbe", "enp3s0f0", {})
        assert (machine.root / "sys/bus/pci/devices" / A / "driver_override").read_text().strip() == ""


def test_unbind_goes_back_to_the_kernels_own_driver_after_several_binds(machine: Machine) -> None:
    machine.add(A, kind="identity")
    bind(A, root=machine.root)
    bind(A, "uio_pci_generic", root=machine.root)
    assert machine.driver(A) == "uio_pci_generic"
    assert unbind(A, root=machine.root)[0].driver == "ixgbe"


@pytest.mark.parametrize("former", ["ixgbe", "", "uio_pci_generic"])
def test_a_bind_that_fails_changes_nothing(machine: Machine, former: str) -> None:
    machine.add(A, driver=former, netdev="enp3s0f0", kind="identity")
    machine.knows[A] = "ixgbe"
    machine.refuses.add(("vfio-pci", A))
    with pytest.raises(BindError, match=r"vfio-pci did not take 0000:03:00\.0.*dmesg"):
        bind(A, root=machine.root)
    assert machine.driver(A) == former
    assert remembered(A, machine.root) == {}
    assert (machine.root / "sys/bus/pci/devices" / A / "driver_override").read_text().strip() == (
        former if former.startswith("uio") else ""
    )


def test_a_group_is_bound_as_a_whole_or_not_at_all(machine: Machine) -> None:
    machine.add(A)
    machine.add(B)
    (bound,) = bind(A, root=machine.root)
    assert [each.address for each in bound.blockers] == [B]
    unbind(A, root=machine.root)
    machine.refuses.add(("vfio-pci", B))
    with pytest.raises(BindError, match="did not take 0000:03:00.1"):
        bind(A, group=True, root=machine.root)
    assert (machine.driver(A), machine.driver(B)) == ("ixgbe", "ixgbe")
    machine.refuses.clear()
    assert [each.function.address for each in bind(A, group=True, root=machine.root)] == [A, B]
    assert (machine.driver(A), machine.driver(B)) == ("vfio-pci", "vfio-pci")


def route(machine: Machine) -> None:
    (machine.root / "proc/net/route").write_text(
        "Iface\tDestination\tGateway\nenp3s0f0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n"
    )


def route6(machine: Machine) -> None:
    (machine.root / "proc/net/ipv6_route").write_text(
        f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 28} 00000400 1 0 3 enp3s0f0\n"
    )


def address6(machine: Machine) -> None:
    (machine.root / "proc/net/if_inet6").write_text(
        f"fe80{'0' * 27}1 02 40 20 80 enp3s0f0\n20010db8{'0' * 23}1 02 40 00 80 enp3s0f0\n"
    )


def bridge(machine: Machine) -> None:
    (machine.root / "sys/class/net/enp3s0f0/upper_br0").touch()


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (route, "carries the default route"),
        (route6, "carries the IPv6 default route"),
        (address6, "has the address 2001:db8::1"),
        (bridge, "is part of br0"),
    ],
)
def test_a_nic_that_linux_uses_is_bound_only_with_force(machine: Machine, use: object, says: str) -> None:
    machine.add(A, netdev="enp3s0f0")
    assert callable(use)
    use(machine)
    with pytest.raises(BindError, match=f"in use by Linux: enp3s0f0 {says}.*--force"):
        bind(A, root=machine.root)
    assert machine.driver(A) == "ixgbe"
    bind(A, force=True, root=machine.root)
    assert machine.driver(A) == "vfio-pci"


def add_virtual(machine: Machine, number: int, **options: Any) -> str:
    """Add virtual function `number` of A. Returns its address."""
    address = f"0000:03:10.{2 * number}"
    path = machine.add(address, device=0x10ED, group=20 + number, **options)
    physical = machine.root / "sys/bus/pci/devices" / A
    (physical / f"virtfn{number}").symlink_to(path)
    (path / "physfn").symlink_to(physical)
    return address


def test_a_nic_with_virtual_functions_in_use_is_bound_only_with_force(machine: Machine) -> None:
    machine.add(A)
    add_virtual(machine, 0, driver="")
    bind(A, root=machine.root)
    unbind(A, root=machine.root)
    used = add_virtual(machine, 1, driver="ixgbevf", netdev="enp3s0f0")
    route(machine)
    says = rf"in use: {used} \(ixgbevf, enp3s0f0 carries the default route\)\. .*vfs {A} --count 0 --force.*{A} --force"
    with pytest.raises(BindError, match=says):
        bind(A, root=machine.root)
    assert machine.driver(A) == "ixgbe"
    bind(A, force=True, root=machine.root)
    assert machine.driver(A) == "vfio-pci"


def test_virtual_functions_and_their_physical_function_name_each_other(machine: Machine) -> None:
    machine.add(A)
    virtual = [add_virtual(machine, number, driver="ixgbevf") for number in range(4)]
    assert look_up(A, machine.root).virtfns == tuple(virtual) and look_up(A, machine.root).physfn == ""
    assert {look_up(each, machine.root).physfn for each in virtual} == {A}


def test_virtual_functions_are_made_without_drivers_and_undo_goes_back(machine: Machine) -> None:
    path = machine.add(A, netdev="enp3s0f0")
    machine.give_sriov(A)
    sriov.make(A, 2, root=machine.root)
    nic = sriov.make(A, 4, root=machine.root)  # the kernel takes another number only after 0
    assert len(nic.virtfns) == sriov.count_of(nic) == 4
    assert [look_up(each, machine.root).driver for each in nic.virtfns] == [""] * 4
    assert (path / "sriov_drivers_autoprobe").read_text() == "0\n"
    (bound,) = bind(nic.virtfns[1], root=machine.root)
    assert bound.function.driver == "vfio-pci" and why_not(bound.function, machine.root) == ""
    with pytest.raises(BindError, match=rf"in use: {nic.virtfns[1]} \(vfio-pci\).*To do it anyway, add --force"):
        sriov.undo(A, root=machine.root)
    assert sriov.undo(A, force=True, root=machine.root).virtfns == ()
    assert (path / "sriov_drivers_autoprobe").read_text() == "1\n"
    with pytest.raises(BindError, match=rf"has changed nothing of {A}.*ixrings vfs {A} --count 0"):
        sriov.undo(A, root=machine.root)


def test_virtual_functions_that_do_not_fit_leave_the_former_number(machine: Machine) -> None:
    path = machine.add(A)
    machine.give_sriov(A)
    sriov.make(A, 2, root=machine.root)
    machine.bus_ends_after = 8
    with pytest.raises(BindError, match=r"did not get 16 virtual functions: Cannot allocate memory\. .*pci=realloc"):
        sriov.make(A, 16, root=machine.root)
    assert len(look_up(A, machine.root).virtfns) == 2
    machine.bus_ends_after = 1
    with pytest.raises(BindError, match="did not get 16 virtual functions: Cannot allocate memory"):
        sriov.make(A, 16, root=machine.root)
    assert not look_up(A, machine.root).virtfns
    assert (path / "sriov_drivers_autoprobe").read_text() == "0\n"


@pytest.mark.parametrize(
    ("options", "count", "says"),
    [
        ({"device": 0x10ED}, 1, "is a virtual function. Give the address of its physical function, which is on the h"),
        ({}, 64, "can have 0 to 63 virtual functions, not 64"),
        ({"driver": "vfio-pci"}, 1, f"bound to vfio-pci, and its virtual .* Run: ixrings unbind {A}"),
        ({"device": 0x1657}, 1, "not an 82599"),
    ],
)
def test_a_function_that_cannot_have_virtual_functions_says_why(
    machine: Machine, options: dict[str, Any], count: int, says: str
) -> None:
    machine.add(A, **options)
    machine.give_sriov(A)
    with pytest.raises(DeviceError, match=says):
        sriov.make(A, count, root=machine.root)


def test_a_nic_without_sriov_says_how_to_look(machine: Machine) -> None:
    machine.add(A)
    with pytest.raises(BindError, match=f"offers no virtual functions.*lspci -vv -s {A} "):
        sriov.make(A, 1, root=machine.root)


def test_a_virtual_function_whose_pf_is_down_or_in_its_group_is_not_usable(machine: Machine) -> None:
    machine.add(A, netdev="enp3s0f0")
    flags = machine.root / "sys/class/net/enp3s0f0/flags"
    virtual = add_virtual(machine, 0, driver="vfio-pci")
    flags.write_text("0x1002\n")
    assert why_not(look_up(virtual, machine.root), machine.root) == (
        "its physical function's interface enp3s0f0 is down. Run: sudo ip link set enp3s0f0 up"
    )
    flags.write_text("0x1003\n")
    assert why_not(look_up(virtual, machine.root), machine.root) == ""
    (machine.root / f"sys/kernel/iommu_groups/20/devices/{A}").symlink_to(machine.root / "sys/bus/pci/devices" / A)
    assert "because a bridge above them has no ACS" in why_not(look_up(virtual, machine.root), machine.root)


def test_commands_for_the_host_name_the_pfs_interface_and_the_number(machine: Machine) -> None:
    machine.add(A, netdev="enp3s0f0")
    virtual = [add_virtual(machine, number, driver="vfio-pci") for number in range(2)]
    host = host_of(f"vfio:{virtual[1]}", machine.root)
    assert host.vf_command("trust on") == "Run: ip link set enp3s0f0 vf 1 trust on"
    alone = machine.root / "sys/bus/pci/devices" / virtual[0]
    (alone / "physfn").unlink()  # as in a guest
    assert host_of(f"vfio:{virtual[0]}", machine.root).vf_command("trust on") == (
        "On the host, with the PF's interface and this VF's number, run: ip link set PF vf N trust on"
    )


def test_list_shows_virtual_functions_under_their_physical_function(machine: Machine) -> None:
    for address in (A, B):
        machine.add(address)
    machine.give_sriov(A)
    virtual = sriov.make(A, 2, root=machine.root).virtfns
    assert [nic.address for nic in under_their_pf(find_nics(machine.root))] == [A, *virtual, B]


@pytest.mark.parametrize("address", ["10000:01:00.0", "8a3cb7f4:00:02.0"])  # VMD; Hyper-V
def test_a_pci_domain_may_have_more_than_four_digits(machine: Machine, address: str) -> None:
    machine.add(A)
    machine.add(address, group=13)
    assert [nic.address for nic in find_nics(machine.root)] == [A, address]
    assert parse_port_name(f"{address}-1/R").target == pci_address(address) == address
    (bound,) = bind(address, root=machine.root)
    assert bound.function.driver == "vfio-pci" and remembered(address, machine.root)["driver"] == "ixgbe"


def test_an_ipv4_address_is_found_by_asking_the_kernel(machine: Machine) -> None:
    machine.add(A, netdev="lo")  # the interface that has an address on every machine
    with pytest.raises(BindError, match=r"lo has the address 127\.0\.0\.1"):
        bind(A, root=machine.root)


@pytest.mark.parametrize(
    ("options", "arguments", "says"),
    [
        ({"vendor": 0x14E4}, {}, "is a NIC, but not an 82599: it is 14e4:10fb"),
        ({"class_code": 0x010802, "device": 0x0953}, {}, "is not a NIC: it is 8086:0953"),
        ({"group": None}, {}, r"has no IOMMU.*intel_iommu=on.*--driver uio_pci_generic"),
        ({}, {"driver": "uio_pci_generic"}, r"the IOMMU translates.*--driver vfio-pci"),
        ({}, {"driver": "tg3"}, "is not a driver for programs"),
        ({}, {"owner": "nobody-of-that-name"}, "there is no user nobody-of-that-name"),
        ({"group": None}, {"driver": "uio_pci_generic", "owner": "root"}, "needs root for physical addresses"),
    ],
)
def test_a_bind_that_cannot_work_is_refused_before_any_change(
    machine: Machine, options: dict[str, Any], arguments: dict[str, Any], says: str
) -> None:
    machine.add(A, **options)
    with pytest.raises(DeviceError, match=says):
        bind(A, **arguments, root=machine.root)
    assert machine.driver(A) == "ixgbe"
    assert not (machine.root / "run/ixrings" / f"{A}.json").exists()


def test_a_nic_that_a_program_has_open_is_neither_bound_nor_given_back(machine: Machine) -> None:
    machine.add(A, driver="vfio-pci")
    process = machine.root / "proc/4711"
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text("python3\n")
    (process / "fd/5").symlink_to(machine.root / "dev/vfio/12")
    assert holders(machine.root, machine.root / "dev/vfio/12") == ["python3 (4711)"]
    for attempt in (lambda: unbind(A, root=machine.root), lambda: bind(A, "uio_pci_generic", root=machine.root)):
        with pytest.raises(DeviceError, match=r"in use by python3 \(4711\)"):
            attempt()
    assert machine.driver(A) == "vfio-pci"


def test_a_nic_that_was_never_bound_is_not_given_back(machine: Machine) -> None:
    machine.add(A)
    with pytest.raises(BindError, match="nothing to give back"):
        unbind(A, root=machine.root)


def test_a_former_driver_that_refuses_is_reported(machine: Machine) -> None:
    machine.add(A)
    bind(A, root=machine.root)
    machine.refuses.add(("ixgbe", A))
    with pytest.raises(BindError, match="ixgbe did not take 0000:03:00.0 back; its driver is none now.*modprobe ixgbe"):
        unbind(A, root=machine.root)
    assert remembered(A, machine.root)["driver"] == "ixgbe"


def test_the_new_owner_owns_the_device_files(machine: Machine) -> None:
    if os.geteuid():
        pytest.skip("chown needs root")
    machine.add(A)
    (bound,) = bind(A, owner="nobody", root=machine.root)
    assert [node.owner() for node in bound.nodes] == ["nobody"]


def test_a_damaged_note_is_treated_as_a_missing_one(machine: Machine) -> None:
    machine.add(A, driver="vfio-pci")
    for text in ("", "[1]", "{", json.dumps({"driver": 5})):
        (machine.root / "run/ixrings").mkdir(exist_ok=True)
        (machine.root / "run/ixrings" / f"{A}.json").write_text(text)
        assert remembered(A, machine.root).get("driver", "") in ("", "5")


# ---- doctor ----


def make_ready(machine: Machine) -> None:
    (machine.root / "proc/interrupts").write_text("  24: 0 IR-PCI-MSI 0-edge\n")
    (machine.root / "proc/self").mkdir(exist_ok=True)
    (machine.root / "proc/self/status").write_text("CapEff:\t000001ffffffffff\n")
    pages = machine.root / "sys/kernel/mm/hugepages/hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "free_hugepages").write_text("64\n")


def repairs(machine: Machine, address: str = "") -> dict[str, str]:
    return {check.name: check.mend for check in examine(address, machine.root) if not check.ok}


def test_a_machine_that_is_ready_passes_every_check(machine: Machine) -> None:
    make_ready(machine)
    machine.add(A, driver="vfio-pci")
    assert repairs(machine) == {}


def test_every_failed_check_has_its_command(machine: Machine) -> None:
    machine.add(A)
    machine.add(B, driver="vfio-pci")
    (machine.root / "sys/bus/pci/drivers/vfio-pci").rmdir()
    (machine.root / "sys/kernel/security").mkdir()
    (machine.root / "sys/kernel/security/lockdown").write_text("none [integrity] confidentiality\n")
    wrong = repairs(machine)
    assert wrong["vfio-pci"] == "sudo modprobe vfio-pci"
    assert "allow_unsafe_interrupts" in wrong["interrupt remapping"]
    assert wrong["hugepages"] == "echo 64 | sudo tee /proc/sys/vm/nr_hugepages"
    assert wrong[A] == f"ixrings bind {A}"
    assert wrong[f"{B} group 12"] == f"ixrings bind {A}"
    assert "kernel lockdown" in wrong
    assert set(repairs(machine, A)) - set(wrong) == set()


def test_without_an_iommu_the_command_changes_the_boot_options(machine: Machine) -> None:
    assert "intel_iommu=on" in repairs(machine)["IOMMU"]
    (machine.root / "proc/cmdline").write_text("root=/dev/sda1 intel_iommu=on\n")
    assert "firmware" in repairs(machine)["IOMMU"]
    assert repairs(machine)["NIC"].startswith("lspci")


def test_a_nic_on_uio_needs_hugepages_and_no_iommu(machine: Machine) -> None:
    make_ready(machine)
    machine.add(A, driver="uio_pci_generic", group=None)
    assert [check.name for check in examine(A, machine.root) if check.needed and not check.ok] == []


def test_memory_that_the_firmware_reserves_is_reported(machine: Machine) -> None:
    make_ready(machine)
    machine.add(A, driver="vfio-pci")
    (machine.root / "sys/kernel/iommu_groups/12/reserved_regions").write_text("0x7a000000 0x7a0fffff direct\n")
    assert repairs(machine) == {f"{A} reserved memory": "sudo dmesg | grep -E 'RMRR|1:1'"}


def test_missing_permission_for_the_group_is_reported(machine: Machine, tmp_path: Path) -> None:
    machine.add(A, driver="vfio-pci")
    (machine.root / "dev/vfio/12").unlink()
    assert "--chown $USER" in repairs(machine)[f"{A} permissions"]
