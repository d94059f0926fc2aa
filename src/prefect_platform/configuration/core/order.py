"""What has to be there before what."""

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, Problem


def in_order(declared: Iterable[Declared]) -> list[Declared]:
    """Return the resources, each after what it needs.

    Raises ConfigurationError with the chain when they need each other: none could be created
    first, since Prefect gives the id that the other one needs.
    """
    by_key = {each.key: each for each in declared}
    graph = {
        key: sorted(need for need in by_key[key].needs if need in by_key)
        for key in sorted(by_key, key=place)
    }
    try:
        return [by_key[key] for key in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        chain: list[Key] = error.args[1][::-1]
        first = chain.index(min(chain))
        chain = [*chain[first:-1], *chain[:first], chain[first]]
        names = " → ".join(str(key) for key in chain)
        cause = f"they name each other in a circle: {names}"
        raise ConfigurationError(
            [Problem(by_key[chain[0]].at, cause, "take one of these references out")]
        ) from None


def place(key: Key) -> tuple[int, str]:
    """Return where a resource stands among those that need nothing of each other."""
    return list(Kind).index(key.kind), key.name
