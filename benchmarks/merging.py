"""Merging four large checkpoints: memory, and throughput as a share of the disk.

    python -m benchmarks.merging [--quick] [--peer PYTHON] [--peer-minutes 10] [--folder WHERE]
                                 [--json]

Four models of a billion random bfloat16 parameters, with the shapes of a 22-layer decoder. Each
way runs in a process of its own, whose peak memory and processor time are read from the kernel,
and finds none of the models in the memory of the system: they are read from the disk. `--peer`
names the Python of an environment with mergekit, which then merges the same files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS = 4
SIZES = {False: (2048, 5632, 22, 32_000), True: (256, 704, 4, 2_000)}  # quick -> shape


def shapes(quick: bool) -> dict[str, tuple[int, ...]]:
    """Return the tensors of one model."""
    width, inner, layers, words = SIZES[quick]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, width),
        "lm_head.weight": (words, width),
        "model.norm.weight": (width,),
    }
    for i in range(layers):
        at = f"model.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            found[f"{at}.self_attn.{name}.weight"] = (width, width)
        for name, shape in (("gate_proj", (inner, width)), ("up_proj", (inner, width)),
                            ("down_proj", (width, inner))):  # fmt: skip
            found[f"{at}.mlp.{name}.weight"] = shape
        found[f"{at}.input_layernorm.weight"] = (width,)
        found[f"{at}.post_attention_layernorm.weight"] = (width,)
    return found


def write_models(folder: Path, quick: bool) -> list[Path]:
    """Write the models; one that is there stays."""
    import torch
    from safetensors.torch import save_file

    width, inner, layers, words = SIZES[quick]
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": words,
        "num_attention_heads": 32, "num_key_value_heads": 32, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }  # fmt: skip
    found = []
    for i in range(MODELS + 1):
        out = folder / f"model{i}"
        if not (out / "config.json").is_file():
            out.mkdir(parents=True, exist_ok=True)
            generator = torch.Generator().manual_seed(i)
            tensors = {
                name: torch.randn(shape, generator=generator, dtype=torch.float32).bfloat16()
                for name, shape in shapes(quick).items()
            }
            save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
            (out / "config.json").write_text(json.dumps(config))
        found.append(out)
    return found


def ours(models: list[Path], out: Path, method: str) -> dict[str, Any]:
    """Merge in this process; called in one of its own."""
    import torch  # noqa: F401 # its memory is there before anything is merged

    from fm_platform.merging.checkpoints import merge_checkpoints

    resting = _peak()
    before = time.perf_counter()
    done = merge_checkpoints(
        models[:MODELS], [1 / MODELS] * MODELS, out, base=models[MODELS], method=method
    )
    return {
        "seconds": time.perf_counter() - before, "read": done.read, "written": done.written,
        "peak_mb": _peak() / 1e6, "resting_mb": resting / 1e6,
    }  # fmt: skip


def peer(python: str, models: list[Path], out: Path, method: str, minutes: float) -> dict[str, Any]:
    """Let mergekit do the same, for so long at most."""
    name = {"linear": "task_arithmetic", "ties": "ties"}[method]
    parameters = {"weight": 1 / MODELS, **({"density": 0.5} if method == "ties" else {})}
    recipe = {
        "merge_method": name, "base_model": str(models[MODELS]), "dtype": "bfloat16",
        "models": [{"model": str(m), "parameters": parameters} for m in models[:MODELS]],
        "parameters": {"normalize": False},
    }  # fmt: skip
    file = out.with_suffix(".yaml")
    file.write_text(json.dumps(recipe))
    before = time.perf_counter()
    script = Path(python).with_name("mergekit-yaml")
    log = out.with_suffix(".log")
    options = ["--no-copy-tokenizer", "--lazy-unpickle"]
    code, used = _alone([str(script), str(file), str(out), *options], log, 60 * minutes)
    seconds = time.perf_counter() - before
    if code == -signal.SIGKILL and seconds >= 60 * minutes:
        done = log.read_text().replace("\r", "\n").strip().splitlines()[-1:]
        return {"error": f"not done after {minutes:g} minutes: {''.join(done)[-120:]}", **used}
    if code:
        return {"error": (log.read_text().strip().splitlines() or [""])[-1][:200]}
    return {"seconds": seconds, **used}


def _alone(
    command: list[str], log: Path, limit_s: float = math.inf
) -> tuple[int, dict[str, float]]:
    """Run a command, its output in `log`; return its exit status, processor time and memory."""
    with log.open("w") as target:
        started = subprocess.Popen(command, stdout=target, stderr=subprocess.STDOUT)
        end, killed = time.perf_counter() + limit_s, False
        while not (ended := os.wait4(started.pid, os.WNOHANG))[0]:
            if time.perf_counter() >= end and not killed:
                os.kill(started.pid, signal.SIGKILL)
                killed = True
            time.sleep(0.1)
        _, status, used = ended
    started.returncode = os.waitstatus_to_exitcode(status)
    return started.returncode, {
        "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss * 1024 / 1e6,
    }  # fmt: skip


def forget(models: list[Path]) -> None:
    """Drop the models from the memory of the system."""
    for model in models:
        with (model / "model.safetensors").open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk(models: list[Path], folder: Path) -> float:
    """Return bytes a second of plain copying: each model read once, one of them written."""
    forget(models)
    size, before = 0, time.perf_counter()
    buffer = bytearray(16_000_000)
    with (folder / "copy").open("wb") as target:
        for i, model in enumerate(models):
            with (model / "model.safetensors").open("rb", buffering=0) as source:
                while count := source.readinto(buffer):
                    size += count
                    if i == 0:
                        size += target.write(memoryview(buffer)[:count])
        target.flush()
        os.fsync(target.fileno())
    (folder / "copy").unlink()
    return size / (time.perf_counter() - before)


def _peak() -> float:
    """Return the peak of this process alone: `getrusage` counts that of its parent as well."""
    told = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()
    return float(told[0]) * 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer", help="Python of an environment with mergekit")
    parser.add_argument("--peer-minutes", type=float, default=10.0, help="it is stopped then")
    parser.add_argument("--folder", type=Path, help="keep the models here")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    folder = told.folder or Path(tempfile.mkdtemp(prefix="merging-"))
    try:
        if not told.one and not told.write:  # in a process of its own: its memory would be seen
            more = ["--quick"] if told.quick else []
            subprocess.run([sys.executable, "-m", "benchmarks.merging", "--folder", str(folder),
                            "--write", *more], check=True)  # fmt: skip
        models = write_models(folder, told.quick)
        if told.write:
            return
        if told.one:
            print(json.dumps(ours(models, Path(told.one[1]), told.one[0])))
            return
        _report(models, folder, told)
    finally:
        if told.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def _report(models: list[Path], folder: Path, told: argparse.Namespace) -> None:
    bandwidth = disk(models, folder)
    largest = max(_numbers(shape) for shape in shapes(told.quick).values())
    found: dict[str, Any] = {
        "parameters": sum(_numbers(shape) for shape in shapes(told.quick).values()),
        "disk_mb_s": bandwidth / 1e6, "largest_tensor_mb": largest * 4 / 1e6,
    }  # fmt: skip
    for method in ("linear", "ties"):
        out = folder / f"out-{method}"
        command = [sys.executable, "-m", "benchmarks.merging", "--folder", str(folder), "--one",
                   method, str(out), *(["--quick"] if told.quick else [])]  # fmt: skip
        forget(models)
        log = out.with_suffix(".log")
        code, used = _alone(command, log)
        if code:
            raise SystemExit(log.read_text())
        row = {**json.loads(log.read_text().splitlines()[-1]), "cpu_seconds": used["cpu_seconds"]}
        moved = row["read"] + row["written"]
        row["share_of_disk"] = moved / row["seconds"] / bandwidth
        # what one tensor needs in float32: the base, every model (linear: one), and the result
        held = 3 if method == "linear" else 2 * MODELS + 3
        row["needs_mb"] = held * largest * 4 / 1e6
        found[method] = row
        print(_line(method, row), file=sys.stderr, flush=True)
        shutil.rmtree(out)
        if told.peer:
            forget(models)
            name = f"{method} by mergekit"
            found[name] = peer(told.peer, models, out, method, told.peer_minutes)
            print(_line(name, found[name]), file=sys.stderr, flush=True)
            shutil.rmtree(out, ignore_errors=True)
    if told.json:
        print(json.dumps(found, indent=1))
        return
    print(
        f"{found['parameters']:,} parameters x {MODELS}; largest tensor "
        f"{found['largest_tensor_mb']:.0f} MB in float32; disk {found['disk_mb_s']:.0f} MB/s"
    )
    for name, row in found.items():
        if isinstance(row, dict):
            print(_line(name, row))


def _line(name: str, row: dict[str, Any]) -> str:
    cells = (f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    return f"{name} {'  '.join(cells)}"


def _numbers(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


if __name__ == "__main__":
    main()
