"""`docker exec NODE ctr`, with the images of the node in the folder that IMAGES names."""

import json
import os
import sys
import tarfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path


def main() -> None:
    """Run one command of ctr as containerd answers it."""
    folder = Path(os.environ["IMAGES"])
    match sys.argv[sys.argv.index("--namespace=k8s.io") + 1 :]:
        case ["images", "ls", "--quiet"]:
            for reference in names(folder):
                sys.stdout.write(f"{reference}\n")
        case ["images", "ls", wanted]:
            reference = wanted.removeprefix("name==")
            sys.stdout.write(f"REF DIGEST\n{reference} {names(folder).get(reference)}\n")
        case ["content", "get", digest]:
            sys.stdout.buffer.write((folder / digest).read_bytes())
        case ["images", "import", "-"]:
            with tarfile.open(fileobj=BytesIO(sys.stdin.buffer.read())) as archive:
                for each in archive:
                    if (file := archive.extractfile(each)) and each.name.startswith("blobs/"):
                        put(folder, file.read())
                index = archive.extractfile("index.json")
                assert index is not None
                for entry in json.load(index)["manifests"]:
                    name(folder, entry["annotations"]["io.containerd.image.name"], entry["digest"])
        case ["images", "rm", *references]:
            left = {key: at for key, at in names(folder).items() if key not in references}
            (folder / "names").write_text(json.dumps(left))
        case other:
            sys.exit(f"unexpected: {other}")


def names(folder: Path) -> dict[str, str]:
    """Return the digests of the images by their references."""
    written: dict[str, str] = json.loads((folder / "names").read_text())
    return written


def name(folder: Path, reference: str, digest: str) -> None:
    (folder / "names").write_text(json.dumps({**names(folder), reference: digest}))


def put(folder: Path, content: bytes) -> str:
    """Store a blob and return its digest."""
    digest = f"sha256:{sha256(content).hexdigest()}"
    (folder / digest).write_bytes(content)
    return digest


if __name__ == "__main__":
    main()
