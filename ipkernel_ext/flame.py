"""Flame graphs as one HTML page that needs nothing from anywhere else. Pure: stacks in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

LEAST = 0.001  # part of the whole below which a frame is not drawn
HEIGHT = 18  # pixels of a frame

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --line: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --text: #eeeeee; --back: #16181c; --line: #16181c; } }
body { font: 14px/1.4 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 1.5em; }
h1 { font-size: 1.3em } h2 { font-size: 1.1em; margin: 1.2em 0 .3em }
.graph { position: relative; width: 100%; overflow: hidden }
.graph button { position: absolute; height: 17px; padding: 0 3px; border: 0; border-right: 1px solid var(--line);
  border-radius: 2px; font: 11px/17px ui-monospace, monospace; text-align: left; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; color: #1b1b1b; cursor: zoom-in }
.graph button:focus-visible { outline: 2px solid #0b57d0; z-index: 1 }
.computing button { background: #f5a04c } .computing button:nth-child(3n) { background: #f7b672 }
.waiting button { background: #7fb2e5 } .waiting button:nth-child(3n) { background: #9cc4ec }
"""

_SCRIPT = """
for (const graph of document.querySelectorAll('.graph')) {
  const frames = [...graph.children];
  const place = (from, width) => { for (const f of frames) {
    const left = (f.dataset.x - from) / width, wide = f.dataset.w / width;
    f.hidden = left + wide <= 1e-9 || left >= 1 - 1e-9;
    f.style.left = 100 * Math.max(0, left) + '%';
    f.style.width = 100 * Math.min(1, left + wide, wide, 1 - left) + '%'; } };
  let shown = frames[0];
  graph.addEventListener('click', event => { const f = event.target.closest('button'); if (!f) return;
    shown = f === shown ? frames[0] : f; place(+shown.dataset.x, +shown.dataset.w); });
}
"""


class _Node:
    """A frame under a certain stack."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.below: dict[str, _Node] = {}


def page(head: str, graphs: Iterable[tuple[str, Mapping[tuple[str, ...], float]]]) -> str:
    """The page.

    Parameters
    ----------
    head : str
        Lines above the graphs.
    graphs
        Title, and seconds by stack (labels from the outermost on).
    """
    body = "".join(_graph(title, stacks) for title, stacks in graphs)
    lines = "".join(f"<p>{escape(line)}</p>" for line in head.splitlines())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Profile of engines</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Profile of engines</h1>{lines}"
        "<p>The width of a frame is its time, with what it called beneath it. A click on a frame makes it the whole "
        f"width, one more goes back.</p>{body}\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _graph(title: str, stacks: Mapping[tuple[str, ...], float]) -> str:
    root = _tree(stacks)
    if root.seconds <= 0:
        return f"<h2>{escape(title)}</h2><p>Nothing.</p>"
    frames: list[str] = []
    depth = _draw(frames, f"{title}: all", root, root.seconds, 0.0, 0)
    return (
        f"<h2>{escape(title)}</h2>\n"
        f'<div class="graph {escape(title.lower())}" style="height:{HEIGHT * depth}px">{"".join(frames)}</div>\n'
    )


def _tree(stacks: Mapping[tuple[str, ...], float]) -> _Node:
    root = _Node()
    for stack, seconds in stacks.items():
        node = root
        node.seconds += seconds
        for label in stack:
            node = node.below.setdefault(label, _Node())
            node.seconds += seconds
    return root


def _draw(frames: list[str], label: str, root: _Node, whole: float, left: float, depth: int) -> int:
    """Add the frames of a tree, from its root on; how deep it is."""
    deepest = 0
    ahead = [(label, root, left, depth)]
    while ahead:
        label, node, left, depth = ahead.pop()
        width = node.seconds / whole
        text = escape(f"{label}: {node.seconds:.2f} s, {100 * width:.1f} %", quote=True)
        frames.append(
            f'<button type="button" title="{text}" aria-label="{text}" data-x="{left:.6f}" data-w="{width:.6f}" '
            f'style="left:{100 * left:.4f}%;width:{100 * width:.4f}%;top:{HEIGHT * depth}px">{escape(label)}</button>\n'
        )
        deepest = max(deepest, depth + 1)
        for name, below in sorted(node.below.items()):
            if below.seconds >= LEAST * whole:
                ahead.append((name, below, left, depth + 1))
            left += below.seconds / whole
    return deepest
