"""A port with its rings as HTML, for notebooks. Loaded when a notebook asks for it. All text is escaped."""

from __future__ import annotations

from html import escape
from itertools import groupby

from ixrings.rings import RegionError, RxRing, TxRing
from ixrings.rings.notebook import Stretch, circle, figure, ring_html

from .queue_set import PortSet
from .ring_view import RingView, view_queue_ring
from .session import Session

MOST_RINGS = 8


def port_html(title: str, session: PortSet) -> str:
    """What the port is, and its rings: of a port with a NIC with the NIC's head and tail."""
    drawings = []
    rings: list[TxRing | RxRing] = [*session.interface.tx_rings, *session.interface.rx_rings]
    for ring in rings[:MOST_RINGS]:
        try:
            drawings.append(
                view_html(view_queue_ring(session, ring)) if isinstance(session, Session) else ring_html(ring)
            )
        except RegionError as error:  # another process has the queue
            drawings.append(f"<p>{escape(str(error))}</p>")
    left = len(rings) - len(drawings)
    more = f"<p>and {left} more rings: <code>port.tx_rings</code>, <code>port.rx_rings</code></p>" * (left > 0)
    return f"<p><b>{escape(title)}</b></p><div>{''.join(drawings)}</div>{more}"


def view_html(view: RingView) -> str:
    """The drawing of `ixrings ring --html`."""
    stretches, start = [], 0
    for owner, run in groupby(slot.owner for slot in view.slots):
        count = len(list(run))
        stretches.append(Stretch(start, count, owner.colour, owner.words))
        start += count
    return figure(circle(view.name, view.num_slots, stretches, view.pointers), stretches)
