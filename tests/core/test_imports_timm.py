"""timm is imported without torch._dynamo, and what was put off works when it is called."""

import subprocess
import sys

import pytest

CODE = """
import sys
{first}
from zoo_search.core.imports import import_timm
timm = import_timm()
print("torch._dynamo" in sys.modules)

import torch
net = timm.create_model("resnet10t").eval()
x = torch.randn(2, 3, 32, 32)
print(net(x).shape == (2, 1000), "torch._dynamo" in sys.modules)

from timm.models import naflexvit
import torchvision
align = sys.modules["torchvision.ops.roi_align"]
print(align.is_compile_supported("cpu"))
import torch._dynamo
print(torch.compiler.disable.__module__, torch._dynamo.utils.is_compile_supported("cpu"))

rope = naflexvit.NaFlexRopeIterator.__dict__
late = [f for f in map(lambda n: getattr(rope[n], "__wrapped__", None), rope) if callable(f)]
print(len(late) > 0)
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
print(align.roi_align(torch.ones(1, 1, 8, 8), boxes, (2, 2)).mean().item())
"""


@pytest.mark.parametrize(
    ("first", "already"),
    [
        pytest.param("", "False", marks=pytest.mark.slow),
        pytest.param(
            "import torchvision, torch._dynamo.utils", "True", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_timm_comes_without_dynamo_and_works(first: str, already: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(first=first)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        already, "True", already, "True", "torch.compiler", "True", "True", "1.0",
    ]  # fmt: skip
