"""A mode of torch that looks at operations runs without torch._dynamo, and with it."""

import subprocess
import sys

import pytest

CODE = """
import sys
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from zoo_search.core.imports import dispatch_without_dynamo
from zoo_search.linegraph.cost import FlopCount
from zoo_search.reassembly.proxies.codes import Codes
from zoo_search.costs.memory import peak_memory
{first}

@dispatch_without_dynamo
class Names(TorchDispatchMode):
    seen = []
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.__name__)
        return func(*args, **(kwargs or {{}}))

x = torch.ones(2, 3)
def look():
    with Names():
        x @ x.T
    with FlopCount() as count:
        x @ x.T
    with Codes(x) as codes:
        x.relu()
    return count.take(), codes.units, peak_memory(torch.nn.ReLU(), x)[0]

before = look()
print("torch._dynamo" in sys.modules)
import torch._dynamo
told = look()
print(told == before == (24, 3, 48), Names.seen.count("mm.default"))
compiled = torch.compile(lambda x: x @ x.T, backend="eager")
with Names():
    print(torch.equal(compiled(x), x @ x.T))
"""


@pytest.mark.parametrize(
    ("first", "already"),
    [
        pytest.param("", "False", marks=pytest.mark.slow),
        pytest.param("import torch._dynamo", "True", marks=pytest.mark.exhaustive),
    ],
)
def test_modes_run_without_dynamo_and_with_it(first: str, already: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(first=first)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [already, "True", "2", "True"]
