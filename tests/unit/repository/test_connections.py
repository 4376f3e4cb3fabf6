"""All HTTP clients are made in one place, so that none forgets the rules for proxies and keys."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PLACE = ROOT / "shared/connections/http_clients.py"
MAKERS = {"AsyncClient", "Client", "get", "post", "request", "stream"}


def test_only_one_module_makes_http_clients():
    modules = [
        path for top in ("shared", "trainer", "workbench", "reward_service") for path in (ROOT / top).rglob("*.py")
    ]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("httpx", "requests", "urllib")
        and node.func.attr in MAKERS
    ]
    assert found
    assert [place for place in found if not place.startswith(str(PLACE.relative_to(ROOT)))] == []
