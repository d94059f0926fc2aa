"""Which tests run in the same worker of pytest-xdist."""

from pathlib import PurePath

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from prefect_platform_cli.host.paths import REPOSITORY


class LoadFolderScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Keeps the tests of a file together, and the files of a folder that has a conftest.py.

    The fixtures there are servers that live as long as the worker. If two workers ran files of the
    folder, each would start its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder = PurePath(file).parent
        return str(folder) if (REPOSITORY / folder / "conftest.py").is_file() else file
