"""Prefect's process of a hook of a run that was cancelled or has crashed, with Prefect's plugins.

Prefect imports itself there inside an event loop, where it cannot load plugins. Without the plugin
pod-token, the API would refuse every request of the hook, and the lines of its log.
"""

import prefect  # noqa: F401 - loads the plugins
from prefect.runner._workspace_runtime_bootstrap import main

if __name__ == "__main__":
    raise SystemExit(main())
