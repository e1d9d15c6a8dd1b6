"""A solution of each challenge that the checker judges: replacements in the lab's solution. Each text is there once."""

from __future__ import annotations

CHALLENGES: dict[str, tuple[tuple[str, str], ...]] = {
    "01": (
        (
            "    find(device)\n",
            """    find(device)
    at = device.config_read(0x34, 1)
    while at and device.config_read(at, 1) != 0x11:
        at = device.config_read(at + 1, 1)
    print(f"MSI-X: vectors={(device.config_read(at + 2, 2) & 0x7FF) + 1}")
""",
        ),
    ),
    "02": (
        ("    nic.AUTOC.update(LMS=3", "    start = time.monotonic()\n    nic.AUTOC.update(LMS=3"),
        ("    speed = 0\n", '    print(f"training: seconds={time.monotonic() - start:.3f}")\n    speed = 0\n'),
    ),
    "03": (
        (
            "    store(ring, 0, q0, q1)",
            """    command = len(frame) << 46 | DATA | DEXT | IFCS
    store(ring, 0, buffer.iova, 14 | command)
    q0, q1 = buffer.iova + 14, (len(frame) - 14) | command | EOP | RS
    store(ring, 1, q0, q1)""",
        ),
        ("TDT[0].write(1)", "TDT[0].write(2)"),
        ("load(ring, 0)[1]", "load(ring, 1)[1]"),
    ),
    "04": (
        ("BSIZEPACKET=2", "BSIZEPACKET=1"),
        (
            "    store(ring, 0, q0, q1)\n",
            "    store(ring, 0, q0, q1)\n    store(ring, 1, q0 + 1024, q1)\n",
        ),
        ("RDT[0].write(1)", "RDT[0].write(2)"),
        ("while not load(ring, 0)[1] & DD", "while not load(ring, 1)[1] & DD"),
        ("length = load(ring, 0)[1] >> 32 & 0xFFFF", "length = 1024 + (load(ring, 1)[1] >> 32 & 0xFFFF)"),
    ),
    "05": (
        (
            "        self.nic.RDT[0].write(slot)\n",
            "        if slot % 8 == 7:\n            self.nic.RDT[0].write(slot)\n",
        ),
    ),
    "06": (
        ("    for _ in range(FRAMES // BATCH):\n", "    for batch in range(FRAMES // BATCH):\n"),
        ("report=number == BATCH - 1", "report=number == BATCH - 1 and batch % 2 == 1"),
    ),
    "08": (("return entry % QUEUES", "return 2 if entry % QUEUES == 3 else 0"),),
    "09": (
        (
            "    restart(nic, ring)\n    sent",
            """    beside = device.alloc_dma(SLOTS * DESCRIPTOR)
    start_transmit_queue(nic, 1, beside, SLOTS)
    for slot in range(10):
        store(beside, slot, buffer.iova, len(frame) | len(frame) << 46 | DATA | DEXT | EOP | IFCS | RS)
    nic.TDT[1].write(10)
    end = time.monotonic() + 20
    while not load(beside, 9)[1] & DD and time.monotonic() < end:
        pass
    restart(nic, ring)
    sent""",
        ),
    ),
}


def solved(lab: str, solution: str) -> str:
    """The challenge's solution, from the lab's."""
    for right, harder in CHALLENGES[lab]:
        assert solution.count(right) == 1, (lab, right)
        solution = solution.replace(right, harder)
    return solution
