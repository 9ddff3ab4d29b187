"""What the pictures are drawn with: colours, texts and boxes of SVG."""

from html import escape

from planner.pictures.layout import Point

INK, FAINT, LINE, PAPER = "#1b2733", "#5b6b7b", "#93a1af", "#f7f9fb"
_FONT = "font-family='Helvetica, Arial, DejaVu Sans, sans-serif'"


def opening(width: float, height: float) -> tuple[str, str]:
    """The first elements of a picture of this size in pixels; `</svg>` ends it."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' {_FONT} font-size='12' fill='{INK}'>",
        f"<rect width='100%' height='100%' fill='{PAPER}'/>",
    )


def rectangle(
    at: Point,
    width: float,
    height: float,
    *,
    fill: str,
    radius: float = 7,
    stroke: str = LINE,
    title: str = "",
    extra: str = "",
) -> str:
    """title: what pointing at it shows; extra: further attributes."""
    inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return (
        f"<rect x='{at.x:.1f}' y='{at.y:.1f}' width='{width:.1f}' height='{height:.1f}' rx='{radius}' "
        f"fill='{fill}' stroke='{stroke}' {extra}{inside}"
    )


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: int = 12,
    weight: str = "normal",
    colour: str = INK,
    anchor: str = "start",
) -> str:
    """One line whose baseline is at y."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' fill='{colour}' "
        f"text-anchor='{anchor}'>{escape(content)}</text>"
    )


def said_seconds(seconds: float) -> str:
    """`85 ms`, `3.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def said_bytes(number: float) -> str:
    """`640 B`, `3.2 KB`, `12.3 MB`."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("KB", "MB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} GB"
