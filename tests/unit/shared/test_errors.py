"""The error hierarchy matches the one drawn in its docstring."""

import inspect

from edit_r1.shared import errors


def test_the_docstring_draws_every_error_under_its_parent():
    drawing = (errors.__doc__ or "").splitlines()
    ours = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.EditR1Error)]
    names = {item.__name__ for item in ours}
    parents: list[tuple[int, str]] = []
    drawn = {}
    for line in drawing:
        name = next((word for word in line.split() if word in names), None)
        if name is None:
            continue
        depth = line.index(name)
        parents = [(at, parent) for at, parent in parents if at < depth]
        drawn[name] = parents[-1][1] if parents else None
        parents.append((depth, name))
    assert drawn == {
        item.__name__: item.__base__.__name__ if item is not errors.EditR1Error else None  # type: ignore[union-attr]
        for item in ours
    }
