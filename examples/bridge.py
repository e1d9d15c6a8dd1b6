"""Join two ports: send on one what the other receives. Buffers are swapped; no byte is copied.

bridge.py -i emulated:tap=left -i emulated:tap=right
"""

from __future__ import annotations

from select import POLLOUT

from meter import Meter, options, run  # first: it makes Ctrl-C quiet while the other modules load

from ixrings import Port, open_ports, poll_ports
from ixrings.driver.arguments import BATCH, MTU, SLOTS


def forward(left: Port, right: Port, batch: int, busy: bool, meter: Meter, counted: dict[str, float]) -> None:
    while True:
        moved = left.forward(right, batch) + right.forward(left, batch)
        counted["forwarded"] += moved
        if not moved:
            # A port that has received frames and moved none waits for room in the other port's TX ring.
            full = [to for port, to in ((left, right), (right, left)) if port.rx_rings[0].space]
            if full:
                poll_ports(full, 0.001, POLLOUT, busy=busy)
            else:
                poll_ports([left, right], 1.0, busy=busy)
        meter.tick()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "-i", dest="ports", action="append", required=True, metavar="PORT", help="a port; give it twice"
    )
    parser.add_argument(
        "-b", dest="batch", type=BATCH, default=1024, help="most frames in one call (default: %(default)s)"
    )
    parser.add_argument("--mtu", type=MTU, default=1500, help="longest payload in bytes (default: %(default)s)")
    parser.add_argument("--slots", type=SLOTS, default=1024, help="slots of each ring (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="spin instead of sleeping when there is nothing to do")
    args = parser.parse_args()
    if len(args.ports) != 2:
        parser.error("a bridge joins two ports; give -i PORT -i PORT")
    counted: dict[str, float] = {"forwarded": 0}
    with open_ports(
        *args.ports, mtu=args.mtu, tx_slots=args.slots, rx_slots=args.slots, promiscuous=True, trace=args.trace
    ) as (left, right):
        with Meter(lambda: counted, (left, right), as_json=args.json) as meter:
            forward(left, right, args.batch, args.busy, meter, counted)


if __name__ == "__main__":
    run(main)
