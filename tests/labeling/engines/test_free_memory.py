"""What a machine and its cgroups say is free, on files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

from labeling.engines.free_memory import UNKNOWN, available_memory, total_memory

GB = 2**30


def test_without_a_container_it_is_what_the_machine_has_free(tmp_path: Path):
    assert available_memory(machine(tmp_path, free_gb=8, cgroup="0::/\n")) == 8 * GB


def test_a_container_allows_its_limit_less_what_it_uses_but_for_cached_files(tmp_path: Path):
    system = machine(tmp_path, free_gb=8, cgroup="0::/\n")
    version_2(system, "", limit="4294967296", used=3 * GB, active_file=GB // 2, inactive_file=GB // 2)
    assert available_memory(system) == 2 * GB  # 4 - 3 + 1


def test_of_the_cgroups_around_a_process_the_tightest_counts(tmp_path: Path):
    # given a job without a limit, in a slice with one of 3 GB, in one of 16 GB
    system = machine(tmp_path, free_gb=8, cgroup="0::/user.slice/jobs.slice/job-7\n")
    version_2(system, "user.slice", limit=str(16 * GB), used=2 * GB)
    version_2(system, "user.slice/jobs.slice", limit=str(3 * GB), used=2 * GB)
    version_2(system, "user.slice/jobs.slice/job-7", limit="max", used=GB)
    assert available_memory(system) == GB


def test_the_machine_counts_where_it_has_less_than_the_container_allows(tmp_path: Path):
    system = machine(tmp_path, free_gb=1, cgroup="0::/\n")
    version_2(system, "", limit=str(16 * GB), used=GB)
    assert available_memory(system) == GB


def test_a_container_that_is_full_has_nothing_left(tmp_path: Path):
    system = machine(tmp_path, free_gb=8, cgroup="0::/\n")
    version_2(system, "", limit=str(2 * GB), used=2 * GB + 4096)
    assert available_memory(system) == 0


def test_cgroups_of_version_1_are_read_too(tmp_path: Path):
    # given both versions side by side, as many machines have them; the path is the host's, unknown in the container
    cgroup = "9:name=systemd:/\n4:cpu,memory:/docker/4f1c\n0::/\n"
    system = machine(tmp_path, free_gb=8, cgroup=cgroup)
    version_1(system, "", limit=4 * GB, used=3 * GB, total_inactive_file=GB)
    assert available_memory(system) == 2 * GB


def test_version_1_writes_no_limit_as_a_number_beyond_all_memory(tmp_path: Path):
    system = machine(tmp_path, free_gb=8, cgroup="4:memory:/job\n")
    version_1(system, "job", limit=9223372036854771712, used=GB)
    assert available_memory(system) == 8 * GB


def test_where_nobody_says_it_is_unknown(tmp_path: Path):
    assert available_memory(tmp_path) == UNKNOWN


def test_all_there_is_is_the_least_of_the_machine_and_the_containers_around_a_process(tmp_path: Path):
    system = machine(tmp_path, free_gb=8, cgroup="0::/jobs.slice/job-7\n")
    assert total_memory(system) == 16 * GB
    version_2(system, "jobs.slice/job-7", limit="max", used=GB)
    assert total_memory(system) == 16 * GB
    version_2(system, "jobs.slice", limit=str(3 * GB), used=2 * GB)
    assert total_memory(system) == 3 * GB
    version_1(system, "", limit=2 * GB, used=GB)
    (system / "proc/self/cgroup").write_text("4:memory:/\n")
    assert total_memory(system) == 2 * GB


def test_this_machine_says_something():
    assert 0 < available_memory() <= total_memory() < UNKNOWN


def machine(system: Path, free_gb: int, cgroup: str) -> Path:
    (system / "proc/self").mkdir(parents=True)
    lines = f"MemTotal: 16777216 kB\nMemFree: 99 kB\nMemAvailable: {free_gb * 1024 * 1024} kB\n"
    (system / "proc/meminfo").write_text(lines)
    (system / "proc/self/cgroup").write_text(cgroup)
    return system


def version_2(system: Path, group: str, limit: str, used: int, **cached: int) -> None:
    stat = {
        "anon": 7,
        "file": 99 * GB,
        "active_file": 0,
        "inactive_file": 0,
    } | cached  # `file` counts shared memory too
    write(system / "sys/fs/cgroup" / group, {"memory.max": limit, "memory.current": used}, stat)


def version_1(system: Path, group: str, limit: int, used: int, **cached: int) -> None:
    stat = {"cache": 99 * GB, "total_active_file": 0, "total_inactive_file": 0} | cached
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used}
    write(system / "sys/fs/cgroup/memory" / group, files, stat)


def write(folder: Path, files: dict[str, object], stat: dict[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))
