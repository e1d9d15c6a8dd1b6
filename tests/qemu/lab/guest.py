"""A QEMU guest that runs scripts; its console output is kept in a file.

    with Guest(lab, folder, nics=[socket]) as guest:
        print(guest.run("ip -br link").output)

In the guest the root file system is read-only, /project is this checkout, /share is `folder`/share, and the rest is in
RAM. QEMU emulates the processor (TCG): a guest is about ten times slower than the machine, but its clock is not.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .prepared import Kernel, Lab, LabError

PROJECT = Path(__file__).resolve().parent.parent.parent.parent
START_S = 180.0  # until the agent is ready; it takes 2 to 6 s on an idle machine
STOP_S = 30.0


@dataclass(frozen=True)
class Result:
    """A script's exit status (124: it ran out of time), and what it printed to stdout and stderr."""

    status: int
    output: str


class Guest:
    """One virtual machine: q35, two processors, an IOMMU (unless iommu=False), each of `nics` behind its own root port.

    folder: for console.log, qemu.log and share/. nics: sockets of vfio-user servers, which must be listening.
    functions: put all `nics` into one slot, as functions 0, 1, ... of one device. bridge: put them behind one
    conventional PCI bridge, in slots 1, 2, ..., where an IOMMU cannot distinguish them. (It can distinguish functions
    of an 82599, by the kernel's pci_quirk_mf_endpoint_acs.) devices: arguments of further -device options of QEMU.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        *,
        nics: Sequence[Path] = (),
        kernel: Kernel | None = None,
        iommu: bool = True,
        functions: bool = False,
        bridge: bool = False,
        devices: Sequence[str] = (),
        memory_mb: int = 1024,
        append: str = "",
    ) -> None:
        self.folder = folder
        self.share = folder / "share"
        self.share.mkdir(parents=True, exist_ok=True)
        self._number = 0
        self._received = b""
        self._console = folder / "console.log"
        agent, theirs = socket.socketpair()
        self._agent = agent
        command = [
            *lab.qemu_command(),
            *machine(memory_mb, iommu),
            *self._channels(theirs.fileno()),
            *shared_folders(lab, kernel or lab.debian_kernel, self.share),
            *boot(kernel or lab.debian_kernel, iommu, append),
            *(bridged_cards(nics) if bridge else network_cards(nics, functions)),
            *(word for device in devices for word in ("-device", device)),
        ]
        with (folder / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=lab.qemu_environment(),
                pass_fds=[theirs.fileno()],
            )
        theirs.close()
        try:
            self._expect("ready", time.monotonic() + START_S, f"did not start within {START_S:.0f} s")
        except BaseException:
            self.kill()
            raise

    def _channels(self, agent_fd: int) -> list[str]:
        """The first serial port is the console, written to a file; the second is the agent's."""
        console = ["-chardev", f"file,id=console,path={self._console}", "-serial", "chardev:console"]
        return [*console, "-chardev", f"socket,id=agent,fd={agent_fd}", "-serial", "chardev:agent"]

    # ---- scripts ----

    def run(self, script: str, *, timeout_s: float = 180.0, check: bool = True) -> Result:
        """Run a bash script in the guest as root, and wait for its end.

        Raises LabError with the output when the script fails and `check` is set, or when the guest does not answer.
        """
        number = self._number = self._number + 1
        (self.share / f"{number}.sh").write_text(script)
        self._agent.sendall(f"run {number} {timeout_s:g}\n".encode())
        answer = self._expect(
            f"done {number} ",
            time.monotonic() + timeout_s + STOP_S,
            f"did not answer within {timeout_s + STOP_S:.0f} s",
        )
        result = Result(int(answer.split()[2]), (self.share / f"{number}.out").read_text(errors="replace"))
        if check and result.status:
            why = (
                f"did not end within {timeout_s:g} s" if result.status == 124 else f"ended with status {result.status}"
            )
            raise LabError(
                f"the guest's script {why}:\n{script}\n--- printed ---\n{result.output}\n"
                f"--- console ---\n{self.console()[-3000:]}"
            )
        return result

    def _expect(self, start: str, deadline: float, complaint: str) -> str:
        """Read the agent's next line. Raises LabError when it does not come, or does not begin with `start`."""
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._agent], [], [], left)[0]:
                raise LabError(f"the guest {complaint}. {self._logs()}")
            received = self._agent.recv(4096)
            if not received:
                raise LabError(f"QEMU ended with status {self._qemu.wait(STOP_S)}. {self._logs()}")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        text = line.decode(errors="replace").strip()
        if not text.startswith(start):
            raise LabError(f"the guest's agent sent {text!r} instead of {start!r}. {self._logs()}")
        return text

    def _logs(self) -> str:
        log = (self.folder / "qemu.log").read_text(errors="replace")
        return f"The console is in {self._console}, QEMU's log beside it:\n{self.console()[-2000:]}\n{log[-2000:]}"

    def console(self) -> str:
        """The console's output so far."""
        try:
            return self._console.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    # ---- end ----

    def close(self) -> None:
        """Power the guest off; kill it if it does not end."""
        if self._qemu.poll() is None:
            try:
                self._agent.sendall(b"stop\n")
                self._qemu.wait(STOP_S)
            except (OSError, subprocess.TimeoutExpired):
                pass
        self.kill()

    def kill(self) -> None:
        """End the guest at once, as a power failure does."""
        if self._qemu.poll() is None:
            self._qemu.kill()
        self._qemu.wait(STOP_S)
        self._agent.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


# ---- parts of QEMU's command line (reference: qemu-system-x86_64(1)) ----


def machine(memory_mb: int, iommu: bool) -> list[str]:
    """RAM is in a memfd, so a vfio-user server can map it. caching-mode makes QEMU notice what the guest maps."""
    size = f"{memory_mb}M"
    accelerator = os.environ.get("IXRINGS_LAB_ACCEL", "tcg,thread=multi")
    command = (
        "-nodefaults -no-user-config -no-reboot -display none -monitor none -run-with exit-with-parent=on "
        f"-machine q35,kernel-irqchip=split,memory-backend=ram -accel {accelerator} -cpu max -smp 2 -m {size} "
        f"-object memory-backend-memfd,id=ram,size={size},share=on"
    ).split()
    return [*command, "-device", "intel-iommu,intremap=on,caching-mode=on"] if iommu else command


def shared_folders(lab: Lab, kernel: Kernel, share: Path) -> list[str]:
    folders = {"root": lab.root, "modules": kernel.modules, "project": PROJECT, "share": share}
    command = []
    for tag, path in folders.items():
        readonly = "off" if tag == "share" else "on"
        command += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly={readonly}"]
        command += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return command


def boot(kernel: Kernel, iommu: bool, append: str) -> list[str]:
    # no_timer_check: on a busy machine QEMU may be late with the four ticks that Linux waits for, and Linux panics.
    words = f"console=ttyS0 panic=-1 loglevel=7 no_timer_check intel_iommu={'on' if iommu else 'off'} {append}"
    return ["-kernel", str(kernel.image), "-initrd", str(kernel.initramfs), "-append", words]


def network_cards(nics: Sequence[Path], functions: bool) -> list[str]:
    command = []
    for number, path in enumerate(nics):
        if number == 0 or not functions:
            command += ["-device", f"pcie-root-port,id=port{number},bus=pcie.0,chassis={number + 1},slot={number + 1}"]
        place = f'"bus":"port0","addr":"0.{number}","multifunction":true' if functions else f'"bus":"port{number}"'
        command += ["-device", f'{{"driver":"vfio-user-pci",{place},"socket":{{"path":"{path}","type":"unix"}}}}']
    return command


def bridged_cards(nics: Sequence[Path]) -> list[str]:
    command = ["-device", "pcie-pci-bridge,id=bridge,bus=pcie.0"]
    for number, path in enumerate(nics):
        place = f'"bus":"bridge","addr":"{number + 1}"'
        command += ["-device", f'{{"driver":"vfio-user-pci",{place},"socket":{{"path":"{path}","type":"unix"}}}}']
    return command
