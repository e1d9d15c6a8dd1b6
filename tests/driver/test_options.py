"""Options of a port: one row each, which the signature, help() and the checks are made from."""

from __future__ import annotations

import inspect

import pytest

from ixrings import PortOptions, open_port, open_ports
from ixrings.driver.config import OnePortOptions
from ixrings.driver.options import rows_of


def options_of(function: object) -> dict[str, object]:
    """The default of each keyword option in a function's signature."""
    assert callable(function)
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_open_port_and_open_ports_take_the_same_options_but_two() -> None:
    one, several = options_of(open_port), options_of(open_ports)
    assert several == {name: default for name, default in one.items() if name not in ("mac", "region")}
    assert set(several) == set(PortOptions.__annotations__)


def test_every_default_passes_its_own_check() -> None:
    for name, (_, option) in rows_of(OnePortOptions).items():
        if option.check is not None and option.default is not None:
            option.check(name, option.default)


@pytest.mark.parametrize("function", [open_port, open_ports])
def test_help_names_every_option_with_its_default_and_meaning(function: object) -> None:
    words = " ".join((function.__doc__ or "").split())
    for name, default in options_of(function).items():
        option = rows_of(OnePortOptions)[name][1]
        assert f"{name} (default {default!r}): {option.meaning}" in words


def test_a_misspelt_option_is_refused_with_the_closest_one() -> None:
    with pytest.raises(TypeError, match=r"open_port\(\) has no option 'tx_slot'; did you mean tx_slots\?"):
        open_port("emulated", tx_slot=64)  # type: ignore[call-arg]  # the mistake under test
    with (
        pytest.raises(TypeError, match=r"open_ports\(\) has no option 'nonsense'; it has tx_queues, rx_queues"),
        open_ports("emulated", nonsense=1),  # type: ignore[call-arg]  # the mistake under test
    ):
        pass


def test_options_kept_in_a_dictionary_are_passed_on() -> None:
    options: PortOptions = {"tx_slots": 64, "rx_slots": 128}
    with open_port("emulated", **options) as port:
        assert (port.tx_rings[0].num_slots, port.rx_rings[0].num_slots) == (64, 128)
