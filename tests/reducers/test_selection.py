"""Which reducer a device gets, and that threads may share it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from foreshock.reducers import select_reducer
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.protocol import Reducer

CLIENT = Path(__file__).parents[2] / "client"


def test_the_cpu_gets_the_compiled_reducer() -> None:
    """Where the library was built, it is what measures."""
    assert select_reducer(torch.device("cpu")).name == "cpu"


def test_a_machine_without_the_library_falls_back_and_says_so_once() -> None:
    """The log says what is slow and why; a second selection adds nothing to it."""
    code = (
        "import logging, sys, torch; logging.basicConfig(stream=sys.stdout);"
        "import foreshock.reducers.cpu as cpu, foreshock.reducers.library as library, pathlib;"
        "cpu.CpuReducer.__init__.__defaults__ = (pathlib.Path('nowhere.so'),);"
        "from foreshock.reducers import select_reducer;"
        "a = [select_reducer(torch.device('cpu')) for _ in range(2)]; print(a[0].name)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.count("nowhere.so is missing") == 1
    assert done.stdout.splitlines()[-1] == "torch"


def test_threads_may_measure_at_once(reducer: Reducer) -> None:
    """Backward hooks run in other threads: no element is lost between them."""
    tensor = torch.ones(50_000)

    def backward() -> None:
        for _ in range(20):
            reducer.measure([0], [tensor])

    workers = [threading.Thread(target=backward) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stats, histogram = reducer.finish().result()
    assert stats[0, 0] == 4 * 20 * 50_000
    assert histogram[0].sum() == 4 * 20 * 50_000


def test_reducers_come_and_go() -> None:
    """Each has a table of its own, and it is freed with the reducer."""
    for _ in range(50):
        reducer = CpuReducer()
        reducer.resize(1000)
        reducer.measure([999], [torch.ones(2)])
    assert reducer.finish().result()[0][999, 0] == 2


@pytest.fixture(scope="module")
def copy_of_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's distribution, to be built without touching the one in use."""
    folder = tmp_path_factory.mktemp("build") / "client"
    leave = shutil.ignore_patterns("__pycache__", "*.so", "dist")
    shutil.copytree(CLIENT, folder, ignore=leave)
    return folder


def build_wheel(folder: Path, compiler: str) -> Path:
    """The wheel that hatchling builds with `compiler`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    env = {"CXX": compiler, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    for old in folder.glob("dist/*"):
        old.unlink()
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("dist/*.whl")
    return wheel


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_wheel_built_without_a_compiler_is_pure(copy_of_client: Path, compiler: str) -> None:
    """A missing or failing compiler costs speed, not the installation."""
    wheel = build_wheel(copy_of_client, compiler)
    assert "foreshock/reducers/libforeshock_cpu.so" not in zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl")
