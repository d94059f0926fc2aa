"""The accepted objects of every environment: one golden file per story, in golden/.

`python -m tests.render.golden` accepts the objects as they are rendered now.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from tests.support.rendering import STORIES, Object, all_objects

FOLDER = Path(__file__).parent / "golden"
COMMAND = ".venv/bin/python -m tests.render.golden"
_CONTENT = re.compile(r"-(?=[a-z]*\d)[0-9a-z]{8,10}$")  # a content hash at the end of a name


class _Readable(yaml.CSafeDumper):
    """Readable YAML: multi-line strings are block scalars, and there are no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Readable.add_representer(str, _text)


def rendered() -> dict[str, dict[str, str]]:
    """Return each object of each environment, by story and by name."""
    return {
        story: {_name(item): _write(item) for item in items}
        for story, items in all_objects().items()
        if story not in STORIES or STORIES[story].files
    }


def accepted() -> dict[str, dict[str, str]]:
    """Return the objects in each story's file, in the same shape."""
    return {
        path.stem: {
            _name(item): _write(item)
            for item in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
        }
        for path in FOLDER.glob("*.yaml")
    }


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Yield a unified diff for each object that was added, removed or changed."""
    for name in sorted({*before, *after}):
        lines = difflib.unified_diff(
            before.get(name, "").splitlines(),
            after.get(name, "").splitlines(),
            f"accepted/{name}" if name in before else "/dev/null",
            f"rendered/{name}" if name in after else "/dev/null",
            lineterm="",
        )
        if text := "\n".join(lines):
            yield text


def _name(item: Object) -> str:
    """Return the object's name without its content hash, so that a change keeps the name."""
    metadata = item["metadata"]
    name = _CONTENT.sub("", metadata["name"])
    return "/".join(filter(None, [item["kind"], metadata.get("namespace"), name]))


def _write(item: Object) -> str:
    return yaml.dump(item, Dumper=_Readable, width=100)


def accept() -> None:
    """Write the objects as they are rendered now, and delete the files of old stories."""
    FOLDER.mkdir(exist_ok=True)
    stories = rendered()
    for removed in accepted().keys() - stories.keys():
        (FOLDER / f"{removed}.yaml").unlink()
    for story, items in stories.items():
        documents = [text for _, text in sorted(items.items())]
        (FOLDER / f"{story}.yaml").write_text("---\n".join(documents))


if __name__ == "__main__":
    accept()
