"""The processes that Ray Tune starts for its trials."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_trial_needs_neither_torch_nor_the_models_to_pass_a_recipe_on():
    code = "import sys, zoo_search.cluster.trial; print({'torch', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "set()", done.stderr
