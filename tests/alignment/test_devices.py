"""Devices, as nvidia-smi and the system tell of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alignment import devices
from labeling.engines.free_memory import UNKNOWN

TWO = "0, GPU-5c1f, NVIDIA H100 80GB HBM3, 81559\n1, GPU-77aa, NVIDIA L4, [N/A]\n"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(devices, "_asked_of_nvidia_smi", lambda: devices.parsed(TWO))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices.gpus.cache_clear()
    yield
    devices.gpus.cache_clear()


def test_gpus_come_before_the_processor_and_say_how_large_they_are(two_gpus: None):
    assert [(device.name, device.memory_mb) for device in devices.devices()[:2]] == [("cuda:0", 81559), ("cuda:1", 0)]
    assert [device.words for device in devices.gpus()] == ["GPU 0: NVIDIA H100 80GB HBM3, 80 GB", "GPU 1: NVIDIA L4"]
    assert devices.devices()[-1].name == "cpu" and devices.devices()[-1].memory_mb > 0


@pytest.mark.parametrize(("shown", "names"), [("1", ["cuda:1"]), ("GPU-5c1f", ["cuda:0"]), ("", [])])
def test_a_gpu_that_is_hidden_from_the_app_is_not_offered(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, shown: str, names: list[str]
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [device.name for device in devices.gpus()] == names


def test_a_machine_without_nvidia_smi_has_its_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert devices._asked_of_nvidia_smi() == []


def test_each_process_takes_a_gpu_and_the_processor_is_shared():
    assert devices.taken("cuda:1", 2) == ("cuda:1", "cuda:2")
    assert devices.taken("cpu", 2) == ("cpu",)


def test_a_run_sees_its_devices_and_no_other():
    assert devices.visible(("cuda:1", "cuda:2"))["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert devices.visible(("cpu",))["CUDA_VISIBLE_DEVICES"] == ""


def test_a_container_with_less_memory_than_its_machine_says_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "total_memory", lambda: 256 * 2**20)
    assert devices.memory_mb() == 256
    monkeypatch.setattr(devices, "total_memory", lambda: UNKNOWN)
    assert 256 < devices.memory_mb() < UNKNOWN // 2**20


def test_the_hardware_of_this_machine_is_named():
    found = devices.hardware()
    assert found["cores"] >= 1 and found["processor"] and found["memory_mb"] > 0 and isinstance(found["gpus"], list)
