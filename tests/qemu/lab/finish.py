"""Finishes each part of the lab after its packages are unpacked."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from .prepared import LabError
from .recipe import (
    BOOT_MODULES,
    DEBIAN_KERNELS,
    INITRAMFS_INIT,
    IOMMUFD_KERNEL,
    IPXE,
    KERNEL_CONFIG,
    KERNEL_SOURCE,
    QEMU,
    ROOT,
)

Say = Callable[[str], None]
KERNEL_BUILD_S = 3600
MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "run", "var", "project", "share", "usr/lib/modules", "root")
PASSWD = (
    "root:x:0:0:root:/tmp:/bin/bash\nnobody:x:65534:65534:nobody:/tmp:/bin/bash\nuser:x:1000:1000:user:/tmp:/bin/bash\n"
)
GROUP = "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\n"


def finish_qemu(part: Path, say: Say) -> None:
    if not (part / "usr/bin/qemu-system-x86_64").exists():
        raise LabError(
            "the QEMU package has no usr/bin/qemu-system-x86_64: its layout has changed. Adapt tests/qemu/lab/finish.py"
        )


def finish_root(part: Path, say: Say) -> None:
    """Do what the packages' installation scripts do, as far as a guest needs it."""
    for name in MOUNT_POINTS:
        (part / name).mkdir(parents=True, exist_ok=True)
    (part / "etc/passwd").write_text(PASSWD)
    (part / "etc/group").write_text(GROUP)
    (part / "etc/hostname").write_text("guest\n")
    (part / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    libraries = part / "usr/lib/x86_64-linux-gnu"
    for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):  # numpy needs these alternatives
        link = libraries / Path(name).name
        if (libraries / name).exists() and not link.exists():
            link.symlink_to(name)
    for name in ("awk", "sh"):
        link = part / "usr/bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    compile_python(part)


def compile_python(part: Path) -> None:
    """Compile the Python modules: the guest's root is read-only, and without .pyc files numpy takes seconds more."""
    libraries = part / "usr/lib/x86_64-linux-gnu"
    (python,) = part.glob("usr/bin/python3.[0-9]*")
    loader = [str(part / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    compileall = ["-S", "-m", "compileall", "-q", "-s", str(part), "--invalidation-mode", "unchecked-hash"]
    command = [*loader, str(python), *compileall, str(part / "usr/lib/python3"), str(part / "usr/lib" / python.name)]
    # Errors are ignored: some packages have test files that do not compile on purpose.
    subprocess.run(
        command, cwd=part, capture_output=True, timeout=300, env={**os.environ, "PYTHONHOME": str(part / "usr")}
    )


def finish_ipxe(part: Path, say: Say) -> None:
    found = sorted(part.rglob("ipxe.lkrn"))
    if not found:
        raise LabError("the ipxe package has no ipxe.lkrn: its layout has changed. Adapt tests/qemu/lab/finish.py")
    shutil.copy(found[0], part / "ipxe.lkrn")


def finish_debian_kernel(part: Path, say: Say) -> None:
    """Debian's older kernels have their image in /boot, newer ones beside their modules."""
    (modules,) = (part / "usr/lib/modules").iterdir()
    release = modules.name
    images = [path for path in (part / "boot" / f"vmlinuz-{release}", modules / "vmlinuz") if path.is_file()]
    if not images:
        raise LabError(f"the package of kernel {release} has no vmlinuz: its layout has changed. Adapt {__file__}")
    shutil.copy(images[0], part / "vmlinuz")
    finish_modules(part, release)


def finish_modules(part: Path, release: str) -> None:
    libraries = part / "usr/lib/x86_64-linux-gnu"
    loader = [str(part / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries), "--argv0", "depmod"]
    run([*loader, str(part / "usr/bin/kmod"), "-b", str(part), release], part, 120)
    write_initramfs(part / "initramfs.gz", part / "usr/lib/modules" / release, part / "usr/bin/busybox")


def finish_iommufd_kernel(part: Path, say: Say) -> None:
    """Compile Debian's sources with x86_64_defconfig and kernel.config, then igb_uio. Keep image and modules only."""
    archive = part / "usr/src" / f"{KERNEL_SOURCE}.tar.xz"
    source = part / "source"
    source.mkdir()
    run(["tar", "-xf", str(archive), "-C", str(source), "--strip-components=1"], source, 300)
    make = ["make", f"-j{os.cpu_count()}", "-s"]
    run([*make, "x86_64_defconfig"], source, 120)
    run(["scripts/kconfig/merge_config.sh", "-m", ".config", str(KERNEL_CONFIG)], source, 60)
    run([*make, "olddefconfig"], source, 120)
    say(f"iommufd-kernel: compiling on {os.cpu_count()} processors")
    run([*make, "bzImage", "modules"], source, KERNEL_BUILD_S)
    shutil.copy(source / "arch/x86/boot/bzImage", part / "vmlinuz")
    install = [*make, "modules_install", f"INSTALL_MOD_PATH={part / 'usr'}", "INSTALL_MOD_STRIP=1"]
    run(install, source, 300)
    (igb_uio,) = (part / "usr/src").glob("dpdk-kmods-*")
    run([*make, f"M={igb_uio}", "modules"], source, 300)
    run([*install, f"M={igb_uio}"], source, 60)
    shutil.rmtree(igb_uio)
    release = (source / "include/config/kernel.release").read_text().strip()
    shutil.rmtree(source)
    archive.unlink()
    finish_modules(part, release)


def run(command: list[str], folder: Path, timeout_s: float) -> None:
    """Run a command. Raises LabError with the last lines that it printed."""
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)} took more than {timeout_s:.0f} s") from None
    if result.returncode:
        raise LabError(f"{' '.join(command)} failed:\n" + "\n".join((result.stdout + result.stderr).splitlines()[-30:]))


# ---- initramfs ----


def write_initramfs(target: Path, modules: Path, busybox: Path) -> None:
    """Write an initramfs with busybox, initramfs.sh, and the modules that the root file system needs."""
    entries: list[tuple[str, int, bytes]] = [
        (name, 0o040755, b"") for name in ("bin", "proc", "dev", "sysroot", "modules")
    ]
    entries += [("bin/busybox", 0o100755, busybox.read_bytes()), ("init", 0o100755, INITRAMFS_INIT.read_bytes())]
    order = load_order(modules, BOOT_MODULES)
    entries.append(("modules.order", 0o100644, "\n".join(path.name.removesuffix(".xz") for path in order).encode()))
    entries += [(f"modules/{path.name.removesuffix('.xz')}", 0o100644, module_bytes(path)) for path in order]
    target.write_bytes(gzip.compress(cpio(entries), 1, mtime=0))


def module_bytes(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def load_order(modules: Path, names: Iterable[str]) -> list[Path]:
    """The modules and their dependencies, in the order of loading. A name without a module is built into the kernel."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    stems = {Path(path).name.partition(".ko")[0].replace("-", "_"): path for path in needs}
    order: list[str] = []

    def load(path: str) -> None:
        for other in needs[path]:
            load(other)
        if path not in order:
            order.append(path)

    for name in names:
        if name.replace("-", "_") in stems:
            load(stems[name.replace("-", "_")])
    return [modules / path for path in order]


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    parts = []
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
    return b"".join(parts)


FINISHERS: dict[str, Callable[[Path, Say], None]] = {
    QEMU.name: finish_qemu,
    ROOT.name: finish_root,
    IPXE.name: finish_ipxe,
    **{part.name: finish_debian_kernel for part in DEBIAN_KERNELS.values()},
    IOMMUFD_KERNEL.name: finish_iommufd_kernel,
}
