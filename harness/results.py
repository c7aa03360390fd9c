"""``results.json`` and the last lines of a run."""

from pathlib import Path
from typing import Any

from harness.files import write_json
from harness.run_log import tell


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Writes ``results.json`` into the run folder."""
    write_json(folder / "results.json", results)


def summary_lines(results: dict[str, Any], folder: Path) -> list[str]:
    """What a run prints last: test metric, published value with source, seconds, files, folder.

    Args:
        results: the content of ``results.json``.
        folder: the run folder.
    """
    published = results["published"]
    metrics = {name: value for name, value in results["metrics"].items() if name.startswith("test/")}
    width = max((len(name) for name in metrics), default=0)
    width = max(width, len("predictions"))
    lines = []
    for name, value in metrics.items():
        line = f"{name:<{width}}  {format_value(name, value)}"
        if published and published["metric"] == name:
            line += f"   published {format_published(published)} ({published['source']})"
        lines.append(line)
    if metrics and not published:
        lines.append(
            f"{'published':<{width}}  no published value for {results['model']} on {results['data']}"
        )
    spans = [f"{name} {seconds:.1f}" for name, seconds in results["seconds"].items()]
    spans += [f"({name} {seconds:.4f})" for name, seconds in results["timings"].items()]
    lines.append(f"{'seconds':<{width}}  {' · '.join(spans)}")
    if results.get("predictions"):
        lines.append(f"{'predictions':<{width}}  {results['predictions']}")
    pictures = sorted((folder / "figures").glob("*.png"))
    if pictures:
        lines.append(f"{'pictures':<{width}}  {len(pictures)} in {folder / 'figures'}")
    lines.append(f"{'run folder':<{width}}  {folder}")
    return lines


def format_value(name: str, value: float) -> str:
    """``0.829`` of an accuracy as ``82.9 %``; other metrics with four digits."""
    return f"{100 * value:.1f} %" if is_share(name) else f"{value:.4f}"


def format_published(published: dict[str, Any]) -> str:
    """The published value with its spread, in the unit of :func:`format_value`."""
    scale, unit = (100.0, " %") if is_share(published["metric"]) else (1.0, "")
    text = f"{scale * published['value']:.1f}"
    if published.get("spread") is not None:
        text += f" ± {scale * published['spread']:.1f}"
    return text + unit


def is_share(metric: str) -> bool:
    """True for metrics in [0, 1] that papers print in percent."""
    return metric.rsplit("/", 1)[-1].split("_")[0] in {"acc", "f1", "mIoU"}


def print_summary(results: dict[str, Any], folder: Path) -> None:
    """Prints :func:`summary_lines` to stdout."""
    for line in summary_lines(results, folder):
        tell(line, result=True)
