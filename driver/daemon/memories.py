"""The daemon's regions by their nr_mem_id, and whose request is carried out: each user has a share of memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ixrings.rings import Region, RegionError
from ixrings.rings.region import check_buf_size

from . import memory
from .errors import Refused
from .policy import Policy, owner, user_name
from .pool import Pool
from .ports import GLOBAL_MEMORY
from .spare import Spare, Wanted

MOST_MEMORY = 0xFFFF  # nr_mem_id has 16 bits
LARGER = "Start the daemon with a larger --memory"
LARGER_EXTERNAL = "Give the program's own memory more rings or buffers"
FIXED = "The memory of this port has a fixed size: close another program that has it, or ask for fewer slots"


class Memories:
    """common: the pool of the region that NICs and pipes share. acting: the user whose request is carried out now, or
    None for the daemon's own work. spare: makes private memory. All changes are made in the loop's thread."""

    common: Pool

    def __init__(self, policy: Policy, spare: Spare) -> None:
        self._policy = policy
        self.acting: int | None = None
        self._pools: dict[int, Pool] = {}
        self._last = GLOBAL_MEMORY
        self._spare = spare

    def add_common(self, region: Region) -> None:
        self.common = self._pools[GLOBAL_MEMORY] = Pool(region, self, GLOBAL_MEMORY, LARGER)
        self.common.hold()

    def apart(self, region: Region) -> Pool:
        """The pool of a region that no program can have: it has no number."""
        return Pool(region, self, 0, LARGER)

    @contextmanager
    def acts(self, uid: int) -> Iterator[None]:
        """Inside, a request of this user is carried out."""
        self.acting = uid
        try:
            yield
        finally:
            self.acting = None

    def most(self, total: int) -> int:
        return total if self.acting is None else self._policy.most(self.acting, total)

    def forget(self, pool: Pool) -> None:
        self._pools = {number: each for number, each in self._pools.items() if each is not pool}
        self._spare.drop(pool.region)

    def mapped(self, inode: int) -> Pool | None:
        """The external region that a program of the acting user has mapped, with one more holder."""
        for pool in self._pools.values():
            if pool.external and pool.user == self.acting and os.fstat(pool.region.fd).st_ino == inode:
                pool.hold()
                return pool
        return None

    def external(self, metadata: int, buffers: int, buf_size: int) -> Pool:
        """A region of these sizes, which a program maps over its own memory. The caller holds it. Raises Refused."""
        name, size = "the external memory", metadata + buffers * buf_size
        if size > self.common.region.size:
            raise Refused(
                errno.ENOMEM,
                f"{name} has {size} bytes, and may have as many as the daemon's region, {self.common.region.size}. "
                f"{LARGER}",
            )
        self._check_private(name, size)
        try:
            check_buf_size(buf_size)
        except RegionError as error:
            raise Refused(errno.EINVAL, f"{name}: {error}") from None
        region = self._spare.take(Wanted(name, memory.Needs(buffers, metadata), buf_size), self.acting)
        pool = Pool(region, self, self._new_number(), LARGER_EXTERNAL)
        pool.external = True
        self._pools[pool.number] = pool
        pool.hold()
        return pool

    def find(self, number: int) -> Pool:
        """The region of a nr_mem_id; 0 is the common one. Raises Refused: EINVAL, EPERM for another user's."""
        pool = self._pools.get(number or GLOBAL_MEMORY)
        if pool is None:
            raise Refused(errno.EINVAL, f"nr_mem_id {number} names no region; write 0 for the common one")
        if pool is not self.common and self.acting not in (None, pool.user) and not owner(self.acting):
            raise Refused(
                errno.EPERM,
                f"nr_mem_id {number} is memory of {user_name(pool.user or 0)}; write 0 for the common memory",
            )
        return pool

    @contextmanager
    def held(self, pool: Pool) -> Iterator[Pool]:
        """The region, held for one more port. After an error in the block it is released."""
        pool.hold()
        try:
            yield pool
        except BaseException:
            pool.release()
            raise

    @contextmanager
    def private(
        self, name: str, tx: Sequence[int], rx: Sequence[int], buf_size: int, extra: int, *, monitors: bool = True
    ) -> Iterator[Pool]:
        """Memory for a port with rings of these slots, which holds it inside. monitors: with room for some that take
        buffers. Raises Refused(ENOMEM)."""
        needs = memory.private_needs(tx, rx, extra, monitors=monitors)
        self._check_private(name, needs.metadata + needs.buffers * buf_size)
        region = self._spare.take(Wanted(name, needs, buf_size), self.acting)
        pool = Pool(region, self, self._new_number(), FIXED)
        self._pools[pool.number] = pool
        with self.held(pool):
            yield pool

    def _check_private(self, name: str, size: int) -> None:
        """Raises Refused(ENOMEM) if private memory of `size` bytes is more than the acting user's share."""
        if self.acting is None or owner(self.acting):
            return
        most = self.most(self.common.region.size)
        used = sum(
            pool.region.size for pool in self._pools.values() if pool.user == self.acting and pool is not self.common
        )
        if used + size > most:
            raise Refused(
                errno.ENOMEM,
                f"{name} needs {size} bytes of memory of its own, and {max(0, most - used)} are left of the share of "
                f"{user_name(self.acting)}. It is set by --memory and --user-share",
            )

    def _new_number(self) -> int:
        """Raises Refused(ENOMEM)."""
        for _ in range(MOST_MEMORY):
            self._last = self._last + 1 if self._last < MOST_MEMORY else GLOBAL_MEMORY + 1
            if self._last not in self._pools:
                return self._last
        raise Refused(errno.ENOMEM, "all numbers of memory are in use")
