"""Contract suites: what every proxy, sampler, metric, init hook, data source and store keeps to.

A suite is a class of pytest tests; whoever has something of his own derives from it, gives the
thing as a fixture, and runs pytest (``docs/extending.md``)::

    from zoo_search.testing.proxies import ProxyContract

    class TestBrightness(ProxyContract):
        @pytest.fixture
        def proxy(self):
            return brightness

Every built-in passes its suite (``tests/testing/``). These modules need pytest, which nothing else
of the package does.
"""

import pytest

_SUITES = ("hooks", "metrics", "proxies", "samplers", "sources", "stores")
# So that an assertion that fails shows its values, as it does in a test file.
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))
