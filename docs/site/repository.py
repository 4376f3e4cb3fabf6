"""Adds the repository files that pages link to as pages of the site, and checks that nothing loads from other hosts.

Pages link to `../BENCHMARKS.md` or `../trainer/train.py`, which works wherever the repository is browsed. On the site,
root documents become pages, and so does each source file that some page links to. A link that names a function, such as
`[trainer/mathematics/flow.py: interpolate](../trainer/mathematics/flow.py)`, leads to its line. Broken links are left
unchanged, so that `mkdocs build --strict` reports them.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = ("BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Documents in the repository's root that the site includes."""
_SOURCE = "source"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".sbatch": "bash", ".toml": "toml"}
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?P<rest>#[^)\s]*)?(?=\))")
_NAMED = re.compile(r'(?<=<a href=")(?P<page>source/[^"#]+)">(?P<path>[\w./]+\.py): (?P<name>[\w.]+)')
"""A link whose text names something in the linked file."""
_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|link(?![^>]*rel=.canonical))\b[^>]*\b(?:src|href)=[\"']?https?://[^>]*>"
)
_log = logging.getLogger("mkdocs.hooks.repository")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's documents and a page for every repository file that some page links to."""
    root = _root(config)
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for name in PAGES:
        texts[name] = _at_docs_root((root / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, name, content=texts[name]))
    linked = {path for uri, text in texts.items() for path in _linked(uri, text, root)}
    for path in sorted(linked):
        files.append(File.generated(config, _source_page(path), content=_shown(root / path, path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' names
    """Point links that leave docs/ to the pages generated for their targets."""
    here = posixpath.dirname(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        target = _target(page.file.src_uri, match["path"])
        if target is None:
            return match[0]
        uri = "index.md" if target == "README.md" else target if target in PAGES else _source_page(target)
        if uri not in files.src_uris:
            return match[0]
        return posixpath.relpath(uri, here or ".") + (match["rest"] or "")

    return _LINK.sub(lead, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' names
    """Point links that name a function to its line; only now, since mkdocs would not recognise anchors of lines."""

    def lead(match: re.Match[str]) -> str:
        line = _line_of(_root(config) / match["path"], match["name"])
        return match[0].replace('"', f'#__codelineno-0-{line}"', 1) if line else match[0]

    return _NAMED.sub(lead, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - mkdocs' names
    """Warn about a page that would load something from another host: the site must work without a network."""
    for found in _ELSEWHERE.findall(output):
        _log.warning("%s loads from other hosts: %s", page.file.src_uri, found)
    return output


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent


def _at_docs_root(text: str) -> str:
    """A root document with its links rewritten as if it were in docs/."""

    def lead(match: re.Match[str]) -> str:
        path = match["path"]
        inside = path.removeprefix("docs/") if path.startswith("docs/") else path if path in PAGES else f"../{path}"
        return inside + (match["rest"] or "")

    return _LINK.sub(lead, text)


def _target(uri: str, path: str) -> str | None:
    """Target of a link in docs/, relative to the repository's root; None if it is inside docs/."""
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), path))
    return None if target.startswith(("docs/", "../", "/")) else target


def _linked(uri: str, text: str, root: Path) -> set[str]:
    """Files and directories of the repository that a page links to."""
    targets = {_target(uri, match["path"]) for match in _LINK.finditer(text)}
    return {t for t in targets if t and t not in PAGES and t != "README.md" and (root / t).exists()}


def _source_page(path: str) -> str:
    return "/".join([_SOURCE, *(part.lstrip(".") for part in f"{path}.md".split("/"))])  # mkdocs leaves out .names


def _line_of(path: Path, name: str) -> int | None:
    """The line on which a module defines a name or `Class.member`; None if it does not."""
    if not path.is_file():
        return None
    lines, number, indent = path.read_text(encoding="utf-8").splitlines(), 0, ""
    for part in name.split("."):
        defines = re.compile(rf"{indent}(?:(?:async )?def |class )?{part}[(: ]")
        number = next((n for n, line in enumerate(lines[number:], number + 1) if defines.match(line)), 0)
        if not number:
            return None
        indent += "    "
    return number


def _shown(path: Path, name: str) -> str:
    """A page with the text of a file, or of all files in a directory; excluded from search."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    contents = [] if path.is_dir() else ["hide: [toc]"]
    parts = ["---", "search:", "  exclude: true", *contents, "---", f"# {name}"]
    for file in files:
        heading = [f"## {file.name}"] if path.is_dir() else []
        fence = f'````{{.{_LANGUAGES.get(file.suffix, "text")} linenums="1"}}'
        parts += ["", *heading, "", fence, file.read_text(encoding="utf-8").rstrip("\n"), "````"]
    return "\n".join(parts) + "\n"
