"""Objects of a rendered folder: its YAML files, read strictly (a key given twice is an error)."""

import yaml


class Strict(yaml.SafeLoader):
    """A loader that refuses what YAML leaves open: duplicate keys."""


def _mapping(loader, node, deep=False):
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key, deep=True)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} is there twice", key.start_mark)
        seen.add(name)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


def _constructed(loader, node):
    result = {}
    yield result
    result.update(_mapping(loader, node))


Strict.add_constructor("tag:yaml.org,2002:map", _constructed)


def documents(text):
    """The objects of a YAML stream; items of a List each on their own."""
    for document in yaml.load_all(text, Loader=Strict):
        if document is None:
            continue
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from document["items"]
        else:
            yield document


def files(paths):
    """YAML and JSON files of folders and files, in order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml", ".json") and file.is_file())
        else:
            yield path


def read(paths):
    """(where it is, object) for all objects in folders and files."""
    for path in files(paths):
        for number, document in enumerate(documents(path.read_text())):
            yield f"{path}#{number}", document
