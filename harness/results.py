"""``results.json`` and the last lines of a run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.static_modules import PROJECT_ROOT
from harness.files import write_json
from harness.predictions import PREDICTIONS
from harness.run_folder import masked_command
from harness.run_log import tell
from harness.system import git_state, hardware_summary, peak_gpu_memory_mb, peak_memory_mb, versions

if TYPE_CHECKING:
    from harness.build import Run
    from harness.phases import Record
    from harness.run_state import RunState


def collect_results(
    run: "Run",
    record: "Record",
    choices: dict[str, str],
    command: list[str],
    started: datetime,
    state: "RunState",
) -> dict[str, Any]:
    """The content of ``results.json``.

    Args:
        run: what was run.
        record: what its phases and its test left.
        choices: the chosen option of each group.
        command: the command line; secrets are masked here.
        started: when this session began.
        state: of the run folder, for the sessions before it.
    """
    config, best = run.config, run.folder / "checkpoints" / "best.ckpt"
    predictions = run.folder / PREDICTIONS
    return {
        "model": choices["model"],
        "data": choices["data"],
        "seed": config["seed"],
        "mode": config["mode"],
        "command": masked_command(command),
        "choices": choices,
        "metrics": record.metrics,
        "published": config["published"],
        "seconds": {name: round(value, 3) for name, value in record.seconds.items()},
        "timings": {name: round(value, 6) for name, value in record.timings.items()},
        "epochs": record.epochs,
        "best_epochs": record.best_epochs,
        "best_values": record.best_values,
        "parameters": sum(parameter.numel() for parameter in run.module.parameters()),
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": peak_gpu_memory_mb(),
        "ckpt": config["ckpt"],
        "predictions": str(predictions) if predictions.exists() else None,
        "best_checkpoint": str(best) if best.exists() else config["ckpt"],
        "hardware": {**hardware_summary(), **config["hardware"]},
        "versions": versions(),
        "git": git_state(PROJECT_ROOT),
        "sessions": state.sessions,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


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
    timings = results["timings"]
    spans = [f"{name} {seconds:.1f}" for name, seconds in results["seconds"].items()]
    spans += [f"({name} {seconds:.4f})" for name, seconds in timings.items() if not _is_speed(name)]
    lines.append(f"{'seconds':<{width}}  {' · '.join(spans)}")
    speeds = [f"{value:,.0f} {name.replace('_', ' ')}" for name, value in timings.items() if _is_speed(name)]
    if speeds:
        lines.append(f"{'speed':<{width}}  {' · '.join(speeds)}")
    if results.get("predictions"):
        lines.append(f"{'predictions':<{width}}  {results['predictions']}")
    pictures = sorted((folder / "figures").glob("*.png"))
    if pictures:
        lines.append(f"{'pictures':<{width}}  {len(pictures)} in {folder / 'figures'}")
    lines.append(f"{'run folder':<{width}}  {folder}")
    return lines


def _is_speed(name: str) -> bool:
    return name.endswith("_per_second")


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
    return metric.rsplit("/", 1)[-1].split("_")[0].lower() in {"acc", "f1", "miou", "iou"}


def print_summary(results: dict[str, Any], folder: Path) -> None:
    """Prints :func:`summary_lines` to stdout."""
    for line in summary_lines(results, folder):
        tell(line, result=True)
