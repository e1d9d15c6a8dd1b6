"""The daemon's regions by their nr_mem_id, and whose request is carried out: each user has a share of memory."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ixrings.rings import Region

from . import memory
from .errors import Refused
from .policy import Policy, owner, user_name
from .pool import Pool
from .ports import GLOBAL_MEMORY

MOST_MEMORY = 0xFFFF  # nr_mem_id has 16 bits
LARGER = "Start the daemon with a larger --memory"
FIXED = "The memory of this port has a fixed size: close another program that has it, or ask for fewer slots"


class Memories:
    """common: the pool of the region that NICs and pipes share. acting: the user whose request is carried out now, or
    None for the daemon's own work. All changes are made in the loop's thread."""

    common: Pool

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.acting: int | None = None
        self._pools: dict[int, Pool] = {}
        self._last = GLOBAL_MEMORY

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

    def find(self, number: int) -> Pool:
        """The region of a nr_mem_id; 0 is the common one. Raises Refused(EINVAL)."""
        pool = self._pools.get(number or GLOBAL_MEMORY)
        if pool is None:
            raise Refused(errno.EINVAL, f"nr_mem_id {number} names no region; write 0 for the common one")
        return pool

    @contextmanager
    def private(
        self, name: str, tx: Sequence[int], rx: Sequence[int], buf_size: int, extra: int, *, monitors: bool = True
    ) -> Iterator[Pool]:
        """Memory for a port with rings of these slots, which holds it inside. monitors: with room for some that take
        buffers. Raises Refused(ENOMEM)."""
        needs = memory.private_needs(tx, rx, extra, monitors=monitors)
        self._check_private(name, needs.metadata + needs.buffers * buf_size)
        pool = Pool(memory.private_region(name, needs, buf_size), self, self._new_number(), FIXED)
        self._pools[pool.number] = pool
        pool.hold()
        try:
            yield pool
        except BaseException:
            pool.release()
            raise

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
