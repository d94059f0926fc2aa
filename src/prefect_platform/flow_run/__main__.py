"""Execute a flow run like `prefect flow-run execute`, with one import of Prefect.

Prefect's command imports Prefect in three processes: its own, the one of the pull steps, and the
engine. This command imports it once, and forks the other processes.
"""

import gc

# The imports make almost no garbage, and looking for it takes a tenth of their time.
gc.disable()

from prefect_platform.flow_run.supervisor import main  # noqa: E402

if __name__ == "__main__":
    main()
