"""Builds the CPU reducer's library with the machine's C++ compiler, and tags the wheel for it.

Without a compiler the build succeeds and the wheel is pure Python: `foreshock.reducers` then
measures with torch operations, slower, with the same results.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).parent / "foreshock" / "reducers"
LIBRARY = SOURCES / "libforeshock_cpu.so"

# No -march=native: a wheel runs on other machines. No -ffast-math: NaN and Inf are the point.
# -Wno-psabi: vectors are passed only between functions of one file.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fno-math-errno",
    "-fno-exceptions",
    "-fno-rtti",
    "-fvisibility=hidden",
    "-Wno-psabi",
)
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "avx512": (
        "-mavx2",
        "-mfma",
        "-mf16c",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx512vbmi",
    ),
}


def find_compiler() -> str | None:
    """The C++ compiler: `CXX`, else g++, else clang++."""
    named = os.environ.get("CXX")
    names = (named,) if named else ("g++", "clang++")
    return next((found for name in names if (found := shutil.which(name))), None)


def compile_library(compiler: str, library: Path) -> None:
    """Compile one kernel per instruction set and link them; raises CalledProcessError."""
    sets = ["portable"]
    if platform.machine().lower() in ("x86_64", "amd64"):
        sets += ["avx2", "avx512"]
    with tempfile.TemporaryDirectory() as folder:
        objects = [f"{folder}/cpu.o"]
        defines = [f"-DFORESHOCK_HAS_{name.upper()}" for name in sets]
        _run([compiler, *FLAGS, *defines, "-c", str(SOURCES / "cpu.cpp"), "-o", objects[0]])
        for name in sets:
            objects.append(f"{folder}/{name}.o")
            names = [
                f"-DFORESHOCK_NAMESPACE=foreshock_{name}",
                f"-DFORESHOCK_KERNEL=foreshock_kernel_{name}",
                f'-DFORESHOCK_KERNEL_NAME="{name}"',
            ]
            kernel = [
                *FLAGS,
                *INSTRUCTION_SETS[name],
                *names,
                "-c",
                str(SOURCES / "cpu_kernel.cpp"),
            ]
            _run([compiler, *kernel, "-o", objects[-1]])
        # Linked beside its place and renamed, so that a process that has it loaded keeps its copy.
        linked = library.with_suffix(".new")
        _run([compiler, "-shared", *objects, "-o", str(linked)])
        linked.replace(library)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class CpuReducerHook(BuildHookInterface[Any]):
    """Compiles before the files of the wheel (or the editable install) are gathered."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiler = find_compiler()
        if compiler is None:
            LIBRARY.unlink(missing_ok=True)
            self.app.display_warning(
                "foreshock: no C++ compiler found, so the CPU reducer falls back to torch "
                "operations; install g++ and reinstall for the fast one"
            )
            return
        try:
            compile_library(compiler, LIBRARY)
        except subprocess.CalledProcessError as error:
            LIBRARY.unlink(missing_ok=True)
            self.app.display_warning(
                f"foreshock: {compiler} could not build the CPU reducer, so it falls back to "
                f"torch operations:\n{error.stderr}"
            )
            return
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"
        build_data["artifacts"].append("foreshock/reducers/libforeshock_cpu.so")
