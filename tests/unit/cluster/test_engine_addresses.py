"""The address pools of clusters overlap neither each other nor the machine's own networks."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.addresses import choose_pool

_TESTS = IPv4Network("198.18.0.0/15")
_PODS = IPv4Network("198.19.0.0/16")
_TAKEN = st.lists(
    st.builds(
        lambda number, prefix: IPv4Network((number, prefix), strict=False),
        st.integers(min_value=0, max_value=2**32 - 1),
        st.integers(min_value=8, max_value=32),
    ),
    max_size=8,
)


@given(cluster=st.text(min_size=1), taken=_TAKEN)
def test_a_pool_is_in_the_range_for_tests_and_overlaps_no_other_network(
    cluster: str, taken: list[IPv4Network]
) -> None:
    try:
        pool = choose_pool(cluster, taken)
    except PlatformError:
        # This happens only if other networks cover the whole range.
        assert any(network.overlaps(IPv4Network("198.18.0.0/16")) for network in taken)
        return
    assert pool.subnet_of(_TESTS)
    assert not pool.overlaps(_PODS)
    assert not any(pool.overlaps(network) for network in taken)
    assert choose_pool(cluster, taken) == pool


def test_a_machine_has_room_for_sixteen_clusters() -> None:
    pools: list[IPv4Network] = []
    for number in range(16):
        pools.append(choose_pool(f"cluster-{number}", pools))
    assert len(set(pools)) == 16
    with pytest.raises(PlatformError, match=r"no part of .* is free for the cluster one-more"):
        choose_pool("one-more", pools)
