"""A directory with the files of a Secret, which change as in a pod."""

from pathlib import Path
from tempfile import mkdtemp


class MountedSecret:
    """The volume of a Secret: the files are links through one link, which the kubelet replaces."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        self.folder = folder
        folder.mkdir()
        for name in files:
            self.file(name).symlink_to(f"..data/{self.file(name).name}")
        self.update(**files)

    def file(self, key: str) -> Path:
        """Return the path of a key, in which `_` stands for a dot."""
        return self.folder / key.replace("_", ".")

    def update(self, **files: bytes) -> None:
        """Replace all files at once."""
        version = Path(mkdtemp(prefix="..", dir=self.folder))
        for name, content in files.items():
            (version / self.file(name).name).write_bytes(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")
