"""Facts about the processor: read from the system's list, with the masks that are set."""

import pytest

from floe.cluster.environment import MASKS, instruction_set_masks
from floe.cluster.machine import processor


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    """Write what the system says of its processor."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPU_INFO", path)
    for name in MASKS:
        monkeypatch.delenv(name, raising=False)
    return path.write_text


LAPTOP = "processor\t: 0\nmodel name\t: Made Up 5000\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nmodel name\t: Second\n"


def test_line_names_the_processor_and_its_flags(cpu_info):
    cpu_info(LAPTOP)
    line = processor.processor_line()
    assert line.startswith("Made Up 5000, PyTorch's kernels for ")
    assert line.endswith(", flags avx2")


def test_line_names_masks_and_what_they_do_not_reach(cpu_info, monkeypatch):
    cpu_info(LAPTOP)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "")
    assert instruction_set_masks() == {"ATEN_CPU_CAPABILITY": "avx2"}
    line = processor.processor_line()
    assert "masked by ATEN_CPU_CAPABILITY=avx2; not masked: vLLM's own kernels (module " in line


def test_arm_lists_features_and_no_name(cpu_info):
    cpu_info("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert processor.processor_flags() == {"fp", "asimd", "bf16"}
    assert processor.processor_name()


def test_a_system_without_a_list_has_no_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "none")
    assert processor.processor_flags() == frozenset()
    assert processor.processor_name()


@pytest.mark.parametrize(
    ("flags", "module"),
    [
        ({"avx2"}, "_C_AVX2"),
        ({"avx2", "avx512f"}, "_C_AVX512"),
        ({"avx2", "avx512f", "avx512_bf16"}, "_C"),
    ],
)
def test_module_of_vllms_kernels_follows_the_flags(flags, module, monkeypatch):
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    assert processor.vllm_extension(frozenset(flags)) == module
