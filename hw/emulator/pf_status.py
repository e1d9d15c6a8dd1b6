"""What the agent tells about one VF: a part of the answer to `ixrings vf`."""

from __future__ import annotations

from ..pf.answers import Vf
from ..pf.pools import Pools
from ..pf.words import CODES

VERSIONS = {code: str(version) for version, code in CODES.items()}  # of the mailbox API


def facts_of(vf: Vf, setup: Pools) -> dict[str, object]:
    """As JSON can carry it. max_tx_rate: Mbit/s, 0: no limit. served: the PF has answered RESET, and serves it since.

    tx_queues, rx_queues: how many are on. receives, sends: whether its pool is open. sent, received: frames, by the
    VF's counters.
    """
    regs, number = setup.regs, vf.number
    queues = range(number * setup.queues, (number + 1) * setup.queues)
    word, bit = number // 32, 1 << number % 32
    return {
        "vf": number,
        "mac": vf.mac.hex(":"),
        "mac_of_the_host": vf.admin,
        "vlan": vf.vlan,
        "qos": vf.qos,
        "trust": vf.trust,
        "spoofchk": vf.spoofchk,
        "max_tx_rate": vf.rate,
        "state": vf.state,
        "query_rss": vf.query_rss,
        "api": VERSIONS[vf.api],
        "served": vf.cleared,
        "tx_queues": sum(regs.TXDCTL[queue].read().ENABLE for queue in queues),
        "rx_queues": sum(regs.RXDCTL[queue].read().ENABLE for queue in queues),
        "sends": bool(regs.PFVFTE[word].read() & bit),
        "receives": bool(regs.PFVFRE[word].read() & bit),
        "sent": int(regs.PVFGPTC[number].read()),
        "received": int(regs.PVFGPRC[number].read()),
        "vlans": sorted(vf.vlans - {0, vf.vlan}),
        "other_macs": [each.hex(":") for each in vf.extra],
        "requests": vf.requests,
        "refused": vf.refused,
    }
