"""Injects faults while the load runs, and heals them."""

import time
from datetime import UTC, datetime
from functools import partial

from tests.chaos.fault import Fault, FaultOfRun
from tests.chaos.history import Wanted
from tests.chaos.load import Load
from tests.chaos.target import Target
from tests.cluster.deployed import in_parallel


def inject(target: Target, faults: tuple[Fault, ...], load: Load) -> None:
    """Inject the faults together, and heal them when the longest is over."""

    def inject_one(fault: Fault) -> None:
        if isinstance(fault, FaultOfRun):
            wanted = Wanted(
                f"{load.mark}-{fault.name}-{len(load.wanted)}",
                datetime.now(UTC),
                crash=fault.reason,
            )
            parameters = {"limit": None, **fault.parameters}
            run_id = load.create_run(wanted, parameters, fault.job_variables)
            fault.inject_into(target, run_id)
        else:
            fault.inject(target)

    begun = datetime.now(UTC)
    try:
        in_parallel(*(partial(inject_one, fault) for fault in faults))
        time.sleep(max(fault.seconds for fault in faults))  # the outage that runs have to survive
    finally:
        # The faults of runs are healed by parts that other faults may have taken away.
        for fault in sorted(faults, key=lambda fault: isinstance(fault, FaultOfRun)):
            fault.heal(target)
    if any(fault.ends_pods for fault in faults):
        load.disrupted.append((begun, datetime.now(UTC)))
