"""The order in which resources are created."""

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, Problem


def in_order(declared: Iterable[Declared]) -> list[Declared]:
    """Return the resources, each after those that it needs.

    Raises ConfigurationError, which shows the chain, when resources need each other: none of them
    could be created first, because each needs the id that Prefect assigns to the next.
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
        cause = f"these resources refer to each other in a circle: {names}"
        raise ConfigurationError(
            [Problem(by_key[chain[0]].at, cause, "remove one of these references")]
        ) from None


def place(key: Key) -> tuple[int, str]:
    """Return the sort key for resources that do not need each other: kind, then name."""
    return list(Kind).index(key.kind), key.name
