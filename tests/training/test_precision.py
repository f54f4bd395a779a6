"""Which processors compute in bfloat16."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from zoo_search.training.precision import has_bf16, precision_on

X86 = platform.machine().lower() in ("x86_64", "amd64")


def pretend(
    monkeypatch: pytest.MonkeyPatch, capability: str, unit: bool, amx: bool = False
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: unit)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


def test_the_chip_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for unit, amx, expected in ((1, 0, True), (0, 1, True), (0, 0, False)):
        pretend(monkeypatch, "AVX512", bool(unit), bool(amx))
        assert has_bf16("cpu") is expected
    pretend(monkeypatch, "AVX2", False)
    assert not has_bf16("cpu")


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_the_kernels_may_not_use_is_not_there(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    pretend(monkeypatch, "AVX512", True)
    for limit, expected in {
        "AVX2": False,
        "avx512_core": False,
        "AVX512_CORE_VNNI": False,
        "AVX512_CORE_BF16": True,
        "AVX512_CORE_AMX": True,
        "ALL": True,
    }.items():
        monkeypatch.setenv(variable, limit)
        assert has_bf16(torch.device("cpu")) is expected, limit
    pretend(monkeypatch, "AVX2", True)  # ATEN_CPU_CAPABILITY=avx2
    assert not has_bf16("cpu")


@pytest.mark.skipif(not X86, reason="the variables are those of x86")
def test_a_process_under_the_variables_of_an_older_cpu_has_none() -> None:
    code = "from zoo_search.training.precision import has_bf16; print(has_bf16('cpu'))"
    env = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


def test_what_is_taken_instead_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    pretend(monkeypatch, "AVX2", False)
    assert precision_on("cpu", "fp32", said.append) == "fp32"
    assert said == []
    assert precision_on("cpu", "bf16", said.append) == "fp32"
    assert len(said) == 1
    assert "no unit for bfloat16" in said[0]
    pretend(monkeypatch, "AVX512", True)
    assert precision_on("cpu", "bf16", said.append) == "bf16"
    assert len(said) == 1
